"""Adds up JUnit reports: prints `N passed, N failed` and fails unless something passed and nothing failed."""

import argparse
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

parser = argparse.ArgumentParser()
parser.add_argument("--broken", type=int, default=0, help="steps that ended badly")
parser.add_argument("reports", nargs="*", type=pathlib.Path)
arguments = parser.parse_args()

passed = skipped = 0
failures = []
for report in arguments.reports:
    if not report.is_file():
        continue  # a pattern that matched nothing
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failures.append(f"{case.get('classname')} {case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1

for name in failures:
    print(f"failed: {name}")
# A step that crashed may have left no failure in its report, or no report.
failed = max(len(failures), arguments.broken)
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(0 if passed and not failed else 1)
