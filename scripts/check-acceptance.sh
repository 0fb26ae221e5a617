#!/usr/bin/env bash
# Fails when docs/acceptance.md names a test or a file that does not exist.
# Names are `crate::file::function`: `fn function` must stand in FILE.rs, or in a file of a folder FILE, in crates/CRATE.
set -euo pipefail
cd "$(dirname "$0")/.."
list=docs/acceptance.md

names=$(grep -oE '`[a-z0-9_]+(::[a-z0-9_]+){2,}`' "$list" | tr -d '`' | sort -u)
functions=$(grep -rE --include='*.rs' -o '\bfn [a-z0-9_]+' crates)
missing=0
for name in $names; do
  crate=${name%%::*} function=${name##*::}
  file=${name#*::} file=${file%::*} file=${file//:://}
  if ! grep -qE "^crates/$crate/([^:]*/)?$file(\.rs|/[^:]*\.rs):fn $function\$" <<< "$functions"; then
    echo "$list names \`$name\`, which is not in crates/$crate" >&2
    missing=1
  fi
done
for path in $(grep -oE '`(crates|scripts)/[A-Za-z0-9_./-]+`' "$list" | tr -d '`' | sort -u); do
  if [ ! -e "$path" ]; then
    echo "$list names \`$path\`, which does not exist" >&2
    missing=1
  fi
done
if [ "$(wc -l <<< "$names")" -lt 2 ]; then
  echo "$list names no tests" >&2
  missing=1
fi
exit "$missing"
