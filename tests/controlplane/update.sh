#!/bin/sh
# Moves this module to another Kubernetes release: update.sh v1.37.2
#
# k8s.io/kubernetes refers to the modules it is published together with (k8s.io/api
# and so on) by paths inside its own source tree, so whoever depends on it has
# to say which published versions those are. go.mod and go.sum are written anew
# from the go.mod of the release.
set -eu

version=${1:?"usage: update.sh VERSION, for example update.sh v1.37.2"}
cd "$(dirname "$0")"

upstream=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",*$/\1/p')
[ -n "$upstream" ] || { echo "update.sh: k8s.io/kubernetes $version has no go.mod" >&2; exit 1; }

# v1.37.2 is published as v0.37.2 of each of the modules beside it.
staging=v0.${version#v1.}
# The storage client and the server it talks to are released together.
etcd=$(sed -n 's|^[[:space:]]*go.etcd.io/etcd/client/v3 \(v[^ ]*\).*|\1|p' "$upstream")

rm -f go.sum
{
	echo "module controlplane"
	echo
	sed -n 's/^go .*/&/p; s/^godebug .*/\n&/p' "$upstream"
	# The requirements of the release, so that everything is built with the
	# versions it was released with; go mod tidy drops what is not needed.
	echo
	awk '/^require \(/ { inside = 1 } inside { print } /^\)/ { inside = 0 }' "$upstream" |
		grep -v -E '^[[:space:]]+k8s\.io/[a-z-]+ v0\.0\.0( |$)' || true
	echo
	echo "require ("
	echo "	go.etcd.io/etcd/server/v3 $etcd"
	echo "	k8s.io/kubernetes $version"
	echo ")"
	echo
	echo "replace ("
	sed -n "s|^[[:space:]]*\(replace \)\{0,1\}\(k8s.io/[a-z-]*\) => \./staging/.*|	\2 => \2 $staging|p" "$upstream"
	echo ")"
} >go.mod
go mod tidy
