# What the judges share; each `judge.sh` sources it. Not a program.
#
# A judge names a client, then asks it one question after another. FOLDER is the folder under judgement, OWN the test kit's
# (which has the CRLs from before the revocation, the lapsed ones and the widest certificate too); the judge's own scratch
# folder is where it stands. Each question leaves one line here and one in $RECORD, of which clients/table.py makes the table.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# client NAME VERSION WITHIN COMMAND: whom we ask from here on; the time from a new CRL to the refusal; what is run.
client() {
    asked=$1
    printf '%s\tversion\t%s\n%s\twithin\t%s\n%s\tcommand\t%s\n' "$1" "$2" "$1" "$3" "$1" "$4" >>"$RECORD"
}

# accepts QUESTION COMMAND…: the client has to say yes.
accepts() {
    local question=$1
    shift
    if run "$@"; then
        passed "$question" accepts "$(grep . answer | tail -n 1)"
    else
        failed "$question" "should accept"
    fi
}

# refuses QUESTION WHY COMMAND…: the client has to say no, and what it says has to match WHY.
refuses() {
    local question=$1 why=$2
    shift 2
    if run "$@"; then
        failed "$question" "should refuse"
    elif grep -qiE -- "$why" answer; then
        passed "$question" refuses "$(grep -iE -m 1 -- "$why" answer | sed 's/^[[:space:]]*//')"
    else
        failed "$question" "refused for another reason than \"$why\""
    fi
}

run() {
    "$@" >answer 2>&1
}

passed() {
    printf 'ok     %-24s %-26s %s: %.110s\n' "$asked" "$1" "$2" "$3"
    printf '%s\t%s\t%s\tok\n' "$asked" "$1" "$2" >>"$RECORD"
}

failed() {
    printf 'FAILED %-24s %-26s %s\n' "$asked" "$1" "$2"
    sed 's/^/       | /' answer
    printf '%s\t%s\tFAILED\n' "$asked" "$1" >>"$RECORD"
}

# part NUMBER FILE: the certificate or CRL at that place in a PEM file, from 1.
part() {
    awk -v wanted="$1" '/-----BEGIN/ { n++ } n == wanted' "$2"
}

# until_line PATTERN FILE PID: waits for the line that a server says when it is ready; fails when the server is gone.
until_line() {
    # Not a pipe: tail notices only at its next line that nobody reads any more.
    grep -qm 1 -E -- "$1" < <(timeout 30 tail -n +1 -F --pid="$3" "$2" 2>/dev/null)
}

# stop PID: ends one process that the judge started, and waits until it is gone.
stop() {
    kill "$1" 2>/dev/null || true
    timeout 30 tail --pid="$1" -f /dev/null
}
