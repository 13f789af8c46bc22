#!/usr/bin/env bash
# Proves compose.yaml with a real Docker engine and no image registry: imports stand-ins for the base images, builds the
# sidecar from the Dockerfile, brings both containers up, talks to them, and takes everything away again.
#
#   START_DOCKERD=1       start an engine for this run (needs root and Debian's docker.io); default: the one that runs
#   PUBLISHED_IMAGES=1    use the images that compose.yaml names, from their registries
#   TOOLS=DIR             where `make` keeps its tools; docker-compose is built there if `docker compose` is missing
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TOOLS:?is set by make e2e-compose}"

project=millrace-e2e
version=$(<envoy/VERSION)
official=envoyproxy/envoy:v$version
work=$(mktemp -d)
dockerd_pid=
imported=()

step() { printf '\n== %s (after %ds)\n' "$*" "$SECONDS"; }
fail() { echo "e2e-compose: $*" >&2; exit 1; }

compose() {
  if docker compose version >/dev/null 2>&1; then
    docker compose -p "$project" "$@"
  else
    "$TOOLS/docker-compose" -p "$project" "$@"
  fi
}

finish() {
  status=$?
  step "clean up"
  if [ $status -ne 0 ]; then compose logs --no-color --tail 100 2>&1 || true; fi
  compose down --volumes --rmi local --timeout 5 || true
  [ ${#imported[@]} -eq 0 ] || docker rmi -f "${imported[@]}" >/dev/null || true
  if [ -n "$dockerd_pid" ]; then
    kill "$dockerd_pid" && wait "$dockerd_pid" || true
    [ $status -eq 0 ] || tail -n 20 "$work/dockerd.log"
  fi
  rm -rf "$work"
  [ $status -ne 0 ] || echo "e2e-compose: passed in ${SECONDS}s"
}
trap finish EXIT

# within SECONDS COMMAND… tries until the command succeeds.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.2
  done
}

# The files a program needs to run: itself and the libraries it links, copied into a root folder.
with_libraries() {
  local root=$1 program=$2 library
  install -D "$program" "$root$3"
  for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ )]*'); do
    install -D "$library" "$root$library"
  done
}

# import TAG ROOT [CHANGE…] makes an image of a folder.
import_image() {
  local tag=$1 root=$2 changes=()
  shift 2
  for change in "$@"; do changes+=(--change "$change"); done
  tar -C "$root" --owner=0 --group=0 -c . | docker import ${changes[@]+"${changes[@]}"} - "$tag" >/dev/null
  imported+=("$tag")
  echo "imported $tag"
}

# The Envoy that `make envoy` found, under the official image's name unless the official image is here.
import_envoy() {
  if docker image inspect "$official" >/dev/null 2>&1; then
    echo "$official is here already"
    return
  fi
  local root=$work/envoy
  with_libraries "$root" "$(go run ./envoy/fetch)" /usr/local/bin/envoy
  for program in sh sleep; do with_libraries "$root" "$(command -v $program)" "/bin/$program"; done # for envoy.sh
  mkdir -m 1777 "$root/tmp"
  import_image "$official" "$root" 'CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]'
}

# The Go on this machine with the modules of go.mod and a shell, so that the Dockerfile builds without a network.
import_go() {
  local root=$work/go cache
  cache=$(go env GOMODCACHE)/cache/download
  mkdir -p "$root/usr/local"
  GOFLAGS=-modcacherw GOMODCACHE=$work/modules GOPROXY="file://$cache,$(go env GOPROXY)" go mod download
  mkdir -p "$root/modules"
  mv "$work/modules/cache/download" "$root/modules/proxy"
  rm -rf "$work/modules"
  cp -rL "$(go env GOROOT)" "$root/usr/local/go"
  for program in sh mkdir; do with_libraries "$root" "$(command -v $program)" "/bin/$program"; done
  mkdir -m 1777 "$root/tmp"
  import_image millrace-e2e/go "$root" 'ENV PATH=/usr/local/go/bin:/bin' 'ENV HOME=/tmp' 'ENV GOTOOLCHAIN=local' \
    'ENV GOPROXY=file:///modules/proxy' 'ENV GOSUMDB=off'
  rm -rf "$root"
}

start_engine() {
  command -v dockerd >/dev/null || fail "no dockerd; install Debian's docker.io"
  mkdir -p "$work/docker"
  # Published ports go through docker's own proxy, so the machine's firewall is left alone.
  dockerd --data-root "$work/docker/data" --exec-root "$work/docker/exec" --pidfile "$work/docker/pid" \
    --host "unix://$work/docker.sock" --iptables=false --ip6tables=false >"$work/dockerd.log" 2>&1 &
  dockerd_pid=$!
  export DOCKER_HOST=unix://$work/docker.sock
  within 30 docker version >/dev/null 2>&1 || { tail -n 20 "$work/dockerd.log"; fail "dockerd does not start"; }
}

# ask PATH [CURL OPTION…]: the answer's headers are left in $work/headers.
ask() {
  local path=$1
  shift
  curl --silent --show-error --fail-with-body --max-time 30 --dump-header "$work/headers" "$@" "http://127.0.0.1:$MILLRACE_PORT$path"
}

step "engine"
[ "${START_DOCKERD:-}" != 1 ] || start_engine
docker version --format 'docker engine {{.Server.Version}}' || fail "no Docker engine answers; START_DOCKERD=1 starts one"
docker compose version >/dev/null 2>&1 || make --no-print-directory "$TOOLS/docker-compose"

step "images"
if [ "${PUBLISHED_IMAGES:-}" != 1 ]; then
  import_envoy
  import_go
  export GO_IMAGE=millrace-e2e/go BASE_IMAGE=scratch
fi

step "compose up"
# Any free port: 41002 may be taken by a gateway at work.
MILLRACE_PORT=${MILLRACE_PORT:-$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')}
export MILLRACE_PORT
compose up --build --detach --wait --wait-timeout 120
within 20 ask /health/ready --output /dev/null || fail "not ready"
compose ps

step "requests"
ask /health
echo
chat='{"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]'
ask /v1/chat/completions --json "$chat}" | tee "$work/answer"
echo
grep -q '"chat.completion"' "$work/answer" || fail "that is no chat completion"
grep -i '^x-selected-provider:' "$work/headers" || fail "no X-Selected-Provider"
ask /v1/chat/completions --no-buffer --json "$chat, \"stream\": true}" >"$work/stream"
tail -n 4 "$work/stream"
grep -q '^data: \[DONE\]' "$work/stream" || fail "the stream has no end"

step "who may do what"
for service in millrace envoy; do
  container=$(compose ps -q "$service")
  user=$(docker top "$container" -o pid,uid | awk 'NR == 2 {print $2}')
  [ "$user" = 101 ] || fail "$service runs as user $user"
  echo "$service: user $user"
done

# Streams that are under way when everything is told to end are complete all the same, those that end within gateway.drain_delay (15 s)
# and those that end after it. The demo provider says back what it heard, 25 words a second.
begin_streams() {
  local name words path text
  streams=()
  rm -f "$work"/*-chat "$work"/*-messages
  for name in 200-chat 500-chat 500-messages; do
    words=${name%-*}
    text=$(printf 'i %.0s' $(seq "$words"))
    path=/v1/messages
    [ "${name#*-}" = messages ] || path=/v1/chat/completions
    ask "$path" --no-buffer --max-time 120 --output "$work/$name" \
      --json '{"model": "gpt-4o", "max_tokens": 4096, "messages": [{"role": "user", "content": "'"$text"'"}], "stream": true}' &
    streams+=("$!")
    within 10 grep -qs content "$work/$name" || fail "the stream $name does not begin"
  done
}

# streams_complete waits for the streams, and checks them, and that both ended well, Envoy last.
streams_complete() {
  local name stream words service code finished ended=()
  for stream in "${streams[@]}"; do wait "$stream" || fail "a stream was cut"; done
  for name in 200-chat 500-chat 500-messages; do
    grep -q '^data: \[DONE\]' "$work/$name" || grep -q '^event: message_stop' "$work/$name" || fail "the stream $name has no end"
    words=$(grep -c '"\(content\|text\)":"[^"]*\bi\b' "$work/$name")
    echo "stream $name: $words words"
    [ "$words" = "${name%-*}" ] || fail "the stream $name has not all its words"
  done
  for service in millrace envoy; do
    read -r code finished <<<"$(docker inspect --format '{{.State.ExitCode}} {{.State.FinishedAt}}' "$(compose ps -aq "$service")")"
    [ "$code" = 0 ] || fail "$service ended with $code"
    echo "$service: exit code 0 at $finished"
    ended+=("$finished")
  done
  [[ ${ended[0]} < ${ended[1]} ]] || fail "Envoy ended before the sidecar"
}

step "compose stop, with streams under way"
begin_streams
compose stop
streams_complete

step "both told to end at once, with streams under way"
compose up --detach --wait --wait-timeout 120
within 20 ask /health/ready --output /dev/null || fail "not ready"
begin_streams
compose kill --signal SIGTERM
docker wait $(compose ps -aq) >/dev/null
streams_complete
