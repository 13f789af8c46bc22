#!/usr/bin/env bash
# Compares the .proto files with an earlier state of them and fails if a change breaks clients or generated code.
#
# The earlier state: $BREAKING_BASE if set; on a branch, where it left main; otherwise the commit before the last one that
# changed the .proto files (or the last one, if they have changed again since).
set -euo pipefail
cd "$(dirname "$0")/.."
: "${BUF:?is the path of buf; run make check-proto}"

skip() {
  echo "buf breaking: skipped, $1"
  exit 0
}

base() {
  if [ -n "${BREAKING_BASE:-}" ]; then
    git rev-parse --verify --quiet "$BREAKING_BASE^{commit}" || { echo "no such commit: $BREAKING_BASE" >&2; exit 1; }
    return
  fi
  local main
  for main in origin/main main; do
    git rev-parse --verify --quiet "$main^{commit}" >/dev/null || continue
    # On main itself, or behind it, it is no base.
    git merge-base --is-ancestor HEAD "$main" && continue
    git merge-base HEAD "$main" && return
  done
  if git diff --quiet HEAD -- proto; then
    git log -2 --format=%H -- proto | sed -n 2p
  else
    git rev-parse HEAD
  fi
}

git rev-parse --verify --quiet HEAD >/dev/null 2>&1 || skip "this is no git checkout with a commit"
against=$(base)
[ -n "$against" ] || skip "there is no earlier commit with .proto files"
[ -n "$(git ls-tree -r --name-only "$against" -- proto/millrace)" ] || skip "commit ${against:0:12} has no .proto files"

old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$against" proto | tar -x -C "$old"
echo "buf breaking: against ${against:0:12}"
"$BUF" breaking proto --against "$old/proto" --config buf.yaml
