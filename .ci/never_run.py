"""Names the tests that every job of CI has skipped, and fails if there are any.

Run: `python3 .ci/never_run.py FOLDER`, with one file of each job in it, which
`pytest --outcomes=FILE` has written. What needs `--thorough` in every job is
counted, not named: it is one of many like it that do run.
"""

import pathlib
import sys

THOROUGH = "thorough"
# Root may write everywhere, and CI is often root; elsewhere it runs.
NOT_AS_ROOT = "without_leave_to_write"


def main(folder):
    """Returns 1 where a test ran nowhere."""
    outcomes = {}
    for path in pathlib.Path(folder).iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            outcome, name = line.split("\t")
            outcomes.setdefault(name, set()).add(outcome)
    # A file that skips itself whole has run where one of its tests has.
    ran = {n.split("::")[0] for n, seen in outcomes.items() if "ran" in seen}
    never = [
        name
        for name, seen in outcomes.items()
        if seen == {"skipped"} and NOT_AS_ROOT not in name and name not in ran
    ]
    many = [n for n, seen in outcomes.items() if THOROUGH in seen]
    thorough = [n for n in many if "ran" not in outcomes[n]]
    print(f"{len(outcomes)} tests, {len(thorough)} only with --thorough")
    for name in never:
        print(f"skipped in every job: {name}")
    return 1 if never else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
