#!/bin/sh
# curl: the few options that scripts in guests use, on top of wget. Plain HTTP only.
usage() { echo "curl: $1 (this guest has a small curl on top of wget: -s -S -f -L -o -O -X -d -H -m -V)" >&2; exit 2; }
url=
output=-
data=
method=
seconds=300
header=
while [ $# -gt 0 ]; do
    case $1 in
    -V | --version) echo "curl, a small one on top of wget (Pileus guest image)"; exit 0 ;;
    -X | --request) method=$2; shift ;;
    -d | --data) data=$2; method=${method:-POST}; shift ;;
    -H | --header) header=$2; shift ;;
    -o | --output) output=$2; shift ;;
    -O) output= ;;
    -m | --max-time | --connect-timeout) seconds=$2; shift ;;
    -s | -S | -f | -L | -sS | -fs | -fsS | -sSf | -sf | -sL | -fsSL | --silent | --fail | --location) ;;
    -*) usage "option $1 is not known" ;;
    *) url=$1 ;;
    esac
    shift
done
[ -n "$url" ] || usage "no URL"
set -- wget -q
[ -n "$header" ] && set -- "$@" --header "$header"
case ${method:-GET} in
GET) ;;
POST) set -- "$@" --post-data "$data" ;;
*) usage "method $method is not possible" ;;
esac
[ -n "$output" ] && set -- "$@" -O "$output"
exec timeout "$seconds" "$@" "$url"
