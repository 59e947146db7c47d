from davel.cli import main

main()
