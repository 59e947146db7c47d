"""The API of the server's folder, asked in this process."""

from __future__ import annotations


def test_videos_of_the_servers_folder_are_chosen_by_an_id(server, folder):
    files = {file["name"]: file for file in server.json("GET", "/api/folder")}
    assert set(files) == {"clip 0.mkv", "clip 1.mkv", "other.mkv"}
    server.json("POST", f"/api/folder/{files['clip 0.mkv']['id']}", expect=201)
    job = server.job(server.finish())
    assert (job["state"], job["source"], job["expires"]) == ("done", "folder", None)
    assert server.json("GET", f"/api/jobs/{job['id']}/truth") == [
        {"label": "bell", "start": 0.5, "end": 2.0, "score": 1.0}
    ]
    assert {file["job"] for file in server.json("GET", "/api/folder")} == {None, job["id"]}
    server.json("POST", f"/api/folder/{'0' * 32}", expect=404)
    server.ask("DELETE", f"/api/jobs/{job['id']}")
    assert (folder / "videos" / "clip 0.mkv").exists()
