"""The benchmarks that nothing else runs do run, on next to nothing."""

import sys

from benchmarks import processes


def test_processes(devkit, monkeypatch, capsys):
    arguments = [
        "processes",
        str(devkit),
        "--images=2",
        "--write_images=3",
        "--rounds=1",
        "--workers=1",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    processes.main()
    rows = [line.split(" |")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"| CRF", "| DRFI", "| write_voc, 3 images"} <= set(rows)
