#!/bin/sh
# Runs Envoy beside a sidecar that somebody else runs, so that a SIGTERM to both cuts no stream: Envoy gets its own when the sidecar
# has drained, which takes its socket away, or after GRACE_SECONDS. SIGINT ends Envoy at once.
#
#   SOCKET_DIR=/run/millrace GRACE_SECONDS=135 envoy.sh envoy -c /etc/envoy/bootstrap.yaml …
set -u
socket=${SOCKET_DIR:-/run/millrace}/millrace.sock
grace=${GRACE_SECONDS:-135} # drain_timeout, and what the sidecar may take beside it

envoy=

outlive() {
	trap '' TERM
	looks=$((grace * 5))
	while [ -S "$socket" ] && [ "$looks" -gt 0 ] && kill -0 "$envoy" 2>/dev/null; do
		looks=$((looks - 1))
		sleep 0.2
	done
	kill -TERM "$envoy" 2>/dev/null
}
trap outlive TERM
trap 'kill -TERM "$envoy" 2>/dev/null' INT

"$@" &
envoy=$!

# A signal ends wait early.
while :; do
	wait "$envoy"
	status=$?
	kill -0 "$envoy" 2>/dev/null || exit "$status"
done
