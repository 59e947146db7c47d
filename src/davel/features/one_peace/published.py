"""The files that ONE-PEACE's features and embeddings need: released checkpoints, what is made of them, a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from davel.core.progress import Report, silent
from davel.features.family import Precision, Weights


def encoders(*names: str) -> list[Any]:
    """The classes of branches, by name; imported when asked for, as they need torch."""
    from davel.features.one_peace.audio import OnePeaceAudio
    from davel.features.one_peace.text import OnePeaceText
    from davel.features.one_peace.video import OnePeaceVideo

    kinds = {kind.branch.name: kind for kind in (OnePeaceAudio, OnePeaceVideo, OnePeaceText)}
    return [kinds[name] for name in names]


def check_base(path: Path) -> Path:
    from davel.features.one_peace.storage import check_checkpoint

    return check_checkpoint(path, encoders("audio", "text"))


def check_video(path: Path) -> Path:
    from davel.features.one_peace.storage import check_checkpoint

    return check_checkpoint(path, encoders("video"))


def _converted(name: str, source: str, megabytes: float) -> Weights:
    """An encoder in a file of its own."""

    def read(path: Path) -> Path:
        from davel.features.one_peace.storage import StoredEncoder

        StoredEncoder(path, *encoders(name))
        return path

    def convert(checkpoint: Path, target: Path, precision: Precision, report: Report = silent) -> None:
        from davel.features.one_peace import storage

        (kind,) = encoders(name)
        storage.convert(kind, checkpoint, target, precision, report)

    return Weights(
        name=f"one-peace-{name}",
        file=f"one_peace_{name}.safetensors",
        url="",
        megabytes=megabytes,
        licence="as its source",
        origin=f"ONE-PEACE's {name} encoder, made of {source}",
        read=read,
        source=source,
        convert=convert,
        on_request=True,
    )


_SERVER = "https://one-peace-shanghai.oss-accelerate.aliyuncs.com"
_NO_LICENCE = "none of its own; the code is Apache-2.0"
BASE = Weights(
    name="one-peace-base",
    file="one-peace.pt",
    url=f"{_SERVER}/one-peace.pt",
    megabytes=15500,
    licence=_NO_LICENCE,
    origin="OFA-Sys/ONE-PEACE: audio, text and images",
    read=check_base,
    on_request=True,
)
KINETICS = Weights(
    name="one-peace-k400",
    file="onepeace_video_k400.pth",
    url=f"{_SERVER}/one_peace_checkpoints/onepeace_video_k400.pth",
    megabytes=6629,
    licence=_NO_LICENCE,
    origin="OFA-Sys/ONE-PEACE: video, fine-tuned on Kinetics-400",
    read=check_video,
    on_request=True,
)
VIDEO = _converted("video", KINETICS.name, 3340)
AUDIO = _converted("audio", BASE.name, 3110)
TEXT = _converted("text", BASE.name, 3190)

_BPE = "https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe"
VOCABULARY = tuple(
    Weights(
        name=f"gpt2-bpe-{name}",
        file=f"gpt2_bpe_{file}",
        url=f"{_BPE}/{file}",
        megabytes=megabytes,
        licence="MIT",
        origin="OpenAI's GPT-2, as fairseq publishes it",
        sha256=sha256,
        aliases=(file,),
        on_request=True,
    )
    for name, file, megabytes, sha256 in (
        ("encoder", "encoder.json", 1.04, "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
        ("pairs", "vocab.bpe", 0.46, "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
        ("dictionary", "dict.txt", 0.6, "2c31c5b236661067fe8626775eb995ef5fe808ac87d2ad4a6ddbef68550f5cc6"),
    )
)
"""What the text encoder's tokens are made with."""
