"""An answer that was acknowledged is never lost, whatever happens to the process or beside it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hem.artifacts.rulings import (
    DROPS,
    VERDICTS,
    VerdictLog,
    digest_of_rulings,
    gather_rulings,
    load_drops,
    load_verdicts,
    save_drops,
)
from hem.errors import HemError
from hem.structures import Answer, Drop, Kind, Place, Rulings, Verdict


def verdict(example_id="0" * 16, answer="right", who=""):
    place = Place("digest", 3, 1, Kind.HARD_NEGATIVE, (1, 2, 3, 4))
    return Verdict(
        example_id, Answer(answer), place, "hem", 0.5, 0.7, "a.mp4", who, "2026-01-01T00:00:00+00:00"
    )


def test_round_trip_and_last_answer_stands(tmp_path: Path):
    path = tmp_path / "review" / "verdicts.jsonl"
    log = VerdictLog(path)
    log.add([verdict("a"), verdict("b", "wrong", 'q"\n<x>')], "tab1")
    log.add([verdict("a", "unsure")], "tab2")
    again = VerdictLog(path)
    assert again.standing == log.standing
    assert again.standing["b"] == verdict("b", "wrong", 'q"\n<x>')
    assert again.standing["a"].answer is Answer.UNSURE
    assert load_verdicts(tmp_path) == load_verdicts(path)


def test_undo_takes_back_the_own_last_answer(tmp_path: Path):
    log = VerdictLog(tmp_path / "v")
    log.add([verdict("a")], "one")
    log.add([verdict("b")], "two")
    log.add([verdict("a", "wrong")], "one")
    assert log.undo("one", "t") == "a"
    assert log.standing["a"].answer is Answer.RIGHT  # the answer before
    assert log.undo("one", "t") == "a"
    assert set(log.standing) == {"b"}
    assert log.undo("one", "t") is None
    assert VerdictLog(tmp_path / "v").standing == log.standing


def test_a_line_cut_short_is_dropped_and_nothing_else(tmp_path: Path):
    path = tmp_path / "v"
    VerdictLog(path).add([verdict("a"), verdict("b")])
    whole = path.read_bytes()
    cut = whole[:-10]
    path.write_bytes(cut)
    log = VerdictLog(path)
    assert set(log.standing) == {"a"}
    log.add([verdict("c")])
    assert set(VerdictLog(path).standing) == {"a", "c"} == set(log.standing)
    path.write_bytes(whole[:10])  # cut within the schema line
    log = VerdictLog(path)
    log.add([verdict("d")])
    assert set(VerdictLog(path).standing) == {"d"}


@pytest.mark.parametrize(
    "text", ['{"schema": "hem/verdicts/9"}\n', "[]\n", "nonsense\n", '{"verdict": {}}\n']
)
def test_other_files_are_refused_by_name(tmp_path: Path, text: str):
    path = tmp_path / "v"
    path.write_text(text)
    with pytest.raises(HemError, match=str(path)):
        VerdictLog(path)


def test_a_damaged_line_is_named(tmp_path: Path):
    path = tmp_path / "v"
    VerdictLog(path).add([verdict("a")])
    with path.open("a") as stream:
        stream.write('{"verdict": {"example_id": "b"}, "tab": ""}\n')
    with pytest.raises(HemError, match="not a whole verdict log"):
        VerdictLog(path)


def test_many_writers_lose_nothing(tmp_path: Path):
    path = tmp_path / "v"
    logs = [VerdictLog(path) for _ in range(4)]

    def write(number: int) -> None:
        for k in range(15):
            logs[number].add([verdict(f"{number}-{k}")], str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(VerdictLog(path).standing) == 60
    logs[0].refresh()
    assert len(logs[0].standing) == 60


def test_a_kill_loses_nothing_acknowledged(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path\n"
        "from hem.artifacts.rulings import VerdictLog\n"
        "from hem.structures import *\n"
        "log = VerdictLog(Path(sys.argv[1])); k = 0\n"
        "while True:\n"
        "    place = Place('d', k, 1, Kind.HARD_NEGATIVE, (1, 2, 3, 4))\n"
        "    log.add([Verdict(str(k), Answer.RIGHT, place, 'hem', 0.5, 1.0, 'a')])\n"
        "    print(k, flush=True); k += 1\n"
    )
    path = tmp_path / "v"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    acknowledged = {line.strip() for line in said if line.endswith("\n")}
    assert acknowledged <= set(VerdictLog(path).standing)


def test_two_processes_that_remove_and_judge_at_once_lose_nothing(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path\n"
        "from hem.artifacts.rulings import VerdictLog, add_drop\n"
        "from hem.structures import *\n"
        "run, who = Path(sys.argv[1]), sys.argv[2]\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for k in range(25):\n"
        "    add_drop(run / 'drops.json', Drop('id', (f'{who}{k}',), (), '', 't'))\n"
        "    place = Place('d', k, 1, Kind.HARD_NEGATIVE, (1, 2, 3, 4))\n"
        "    verdict = Verdict(f'{who}{k}', Answer.RIGHT, place, 'hem', 0.5, 1.0, who)\n"
        "    VerdictLog(run / 'verdicts.jsonl').add([verdict])\n"
    )
    pipe = subprocess.PIPE
    two = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), who], stdin=pipe, stdout=pipe, text=True
        )
        for who in ("a", "b")
    ]
    for one in two:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    for one in two:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in two:
        one.communicate()
        assert one.returncode == 0
    wanted = {f"{who}{k}" for who in ("a", "b") for k in range(25)}
    assert {name for one in load_drops(tmp_path / "drops.json") for name in one.example_ids} == wanted
    assert set(VerdictLog(tmp_path / "verdicts.jsonl").standing) == wanted


def test_drops_round_trip_and_older_records_load(tmp_path: Path):
    place = Place("digest", 3, 1, Kind.HARD_NEGATIVE, (1, 2, 3, 4))
    drops = [
        Drop("id a", ("a",), (), "why", "t", "me", ("hem",), (place,)),
        Drop("video b", (), ("b",), "", "t"),
    ]
    save_drops(tmp_path / "d.json", drops)
    assert load_drops(tmp_path / "d.json") == drops
    assert load_drops(tmp_path / "none.json") == []
    (tmp_path / "old.json").write_text(
        '{"schema": "hem/replay_drops/1", "drops": [{"asked": "id a", "example_ids": ["a"], "video_ids": [],'
        ' "reason": "", "time": "t"}]}'
    )
    assert load_drops(tmp_path / "old.json") == [Drop("id a", ("a",), (), "", "t")]
    (tmp_path / "bad.json").write_text('{"schema": "hem/replay_drops/1", "drops": [{"asked": 1}]}')
    with pytest.raises(HemError, match=r"bad\.json"):
        load_drops(tmp_path / "bad.json")


def test_gathering_lets_the_own_review_win(tmp_path: Path):
    run, other = tmp_path / "run", tmp_path / "other"
    assert not gather_rulings(run)
    VerdictLog(run / VERDICTS).add([verdict("a", "right")])
    VerdictLog(other / VERDICTS).add([verdict("a", "wrong"), verdict("b", "wrong")])
    found = {one.example_id: one.answer.value for one in gather_rulings(run, [other]).verdicts}
    assert found == {"a": "right", "b": "wrong"}
    with pytest.raises(HemError, match="nowhere"):
        gather_rulings(run, [tmp_path / "nowhere"])


def test_removals_of_another_run_are_gathered_with_or_without_a_review(tmp_path: Path):
    run, other = tmp_path / "run", tmp_path / "other"
    here, there = Drop("id a", ("a",), (), "", "t1"), Drop("video b", (), ("b",), "", "t2")
    other.mkdir()
    save_drops(other / DROPS, [there])
    assert gather_rulings(run, [other]) == Rulings(drops=(there,))
    assert gather_rulings(run, [other / DROPS]) == Rulings(drops=(there,))
    run.mkdir()
    save_drops(run / DROPS, [here])
    VerdictLog(other / VERDICTS).add([verdict("c")])
    assert gather_rulings(run, [other]) == Rulings((verdict("c"),), (there, here))
    assert gather_rulings(run, [run]) == gather_rulings(run)  # named once more, nothing is there twice
    (tmp_path / "empty").mkdir()
    with pytest.raises(HemError, match=r"verdicts=.*empty holds neither .*verdicts\.jsonl nor drops\.json"):
        gather_rulings(run, [tmp_path / "empty"])


def test_the_digest_knows_what_is_taught_alone():
    first = Rulings((verdict("a", who="x"), verdict("b")))
    assert digest_of_rulings(first) == digest_of_rulings(Rulings((verdict("b"), verdict("a", who="y"))))
    assert digest_of_rulings(first) != digest_of_rulings(Rulings((verdict("a", "wrong"), verdict("b"))))
    assert digest_of_rulings(first) != digest_of_rulings(
        Rulings(first.verdicts, (Drop("x", ("a",), (), "", ""),))
    )
