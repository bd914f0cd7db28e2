#!/bin/sh
# A host's network state comes out as a tar archive on standard output: NAME/state/, one file a command.
#
#   sh collect.sh [-n NAME] > host.tar      or      ssh HOST sh -s < collect.sh > host.tar
#   sh collect.sh [-n NAME] -d FOLDER       writes FOLDER/state/ instead
#
# It only reads. No program is called that would make the kernel load a module: what a program needs is looked for first, and
# where it is absent, the program is left out. What is left out, and why, stands in state/host.json and on standard error.
# Needs a POSIX shell and coreutils (or busybox), grep and sed. Nothing stays behind but what was asked for.

# All in one function: with `sh -s` the script is read to its end before anything runs.
main() {
    set -u
    umask 077
    LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
    export LC_ALL PATH
    unset GREP_OPTIONS GREP_COLOR GREP_COLORS POSIXLY_CORRECT 2>/dev/null

    LARGEST=128     # MiB of one file; what is larger is left out, for half a table says wrong things
    COMMAND_S=20    # seconds that one command may take
    ALL_S=90        # seconds after which no further command is begun
    MOST_SESSIONS=20000 # sessions of HAProxy that are asked for in full

    name='' folder='' work='' child='' watch='' started=''
    while getopts d:n:h option; do
        case $option in
            d) folder=$OPTARG ;;
            n) name=$OPTARG ;;
            h) echo 'usage: collect.sh [-n NAME] [-d FOLDER]; without -d a tar archive goes to standard output'; exit 0 ;;
            *) exit 2 ;;
        esac
    done
    if [ -n "$folder" ] && [ -n "$(ls -A "$folder/state" 2>/dev/null)" ]; then
        say "$folder/state holds files already, expected a new folder"
        exit 2
    elif [ -z "$folder" ] && [ -t 1 ]; then
        say 'an archive is binary, expected standard output to be a file or a pipe'
        exit 2
    fi

    trap 'stop $?' EXIT
    trap 'stop 129' HUP
    trap 'stop 130' INT
    trap 'stop 141' PIPE
    trap 'stop 143' TERM
    make_work_folder || { say 'no folder for temporary files can be written; TMPDIR names another'; exit 2; }
    state=$work/state
    mkdir "$state" || exit 2

    learn_about_host
    learn_about_kernel
    collect_all
    write_host
    if [ "$full" = yes ] || ! has_room; then
        say 'no space is left for temporary files, nothing was collected; TMPDIR names another folder'
        exit 2
    fi
    if [ -n "$folder" ]; then
        mkdir -p "$folder/state" && mv "$state"/* "$folder/state/" || exit 2
    else
        write_archive || exit 2
    fi
    say "$name: $count files, $missing left out"
    exit 0
}

say() {
    printf 'tcpwhy collect: %s\n' "$*" >&2
}

# Ends everything: the command that runs, the temporary folder, and the script.
# shellcheck disable=SC2317 # traps call it
stop() {
    trap '' HUP INT TERM PIPE
    trap - EXIT
    for process in $child $watch; do
        kill "$process" 2>/dev/null
        wait "$process" 2>/dev/null
    done
    [ -n "$work" ] && rm -rf "$work"
    exit "$1"
}

make_work_folder() {
    for place in "${TMPDIR:-/tmp}" /tmp /var/tmp /dev/shm; do
        work=$(mktemp -d "$place/tcpwhy-collect.XXXXXX" 2>/dev/null) && return 0
    done
    work=''
    return 1
}

# Seconds of a clock that nobody sets, without a program where the kernel shows it.
learn_time() {
    IFS=. read -r seconds rest 2>/dev/null </proc/uptime || seconds=$(date +%s)
}

learn_about_host() {
    started=$(date +%s)
    learn_time
    begun=$seconds
    moment=$(date +%Y-%m-%dT%H:%M:%S%z)
    zone=${moment#???????????????????}
    offset=${zone%??}:${zone#???}
    hostname=$(uname -n)
    kernel=$(uname -r)
    name=$(printf '%s' "${name:-$hostname}" | tr -c 'A-Za-z0-9._-' '_' | cut -c1-60)
    case $name in
        '' | .* | -*) name=host$name ;;
    esac
    : >"$work/failed"
    : >"$work/none"
    count=0 missing=0 full=no
    may_administer=no
    if grep -q '^CapEff:' /proc/self/status 2>/dev/null; then
        capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
        [ $((0x$capabilities & 0x1000)) -ne 0 ] && may_administer=yes # CAP_NET_ADMIN, linux/capability.h
    elif [ "$(id -u)" = 0 ]; then
        may_administer=yes
    fi
    [ "$may_administer" = yes ] || say 'not root: rules of iptables, nft and ipset, tracked connections and other users'\'' processes are left out'
    limit=''
    if timeout -k 1 5 true 2>/dev/null; then
        limit="timeout -k 2 $COMMAND_S"
    elif timeout 5 true 2>/dev/null; then
        limit="timeout $COMMAND_S"
    fi
}

# --- what the kernel has ---

learn_about_kernel() {
    loads=yes # whether the kernel can load modules at all
    modules=''
    if [ -e /proc/modules ]; then
        modules=" $(cut -d ' ' -f 1 /proc/modules | tr '\n' ' ')"
    else
        loads=no
    fi
    [ "$(cat /proc/sys/kernel/modules_disabled 2>/dev/null)" = 1 ] && loads=no
    builtin_list=''
    for place in /lib/modules /usr/lib/modules /usr/lib/uml/modules /run/booted-system/kernel-modules/lib/modules; do
        [ -r "$place/$kernel/modules.builtin" ] && builtin_list=$place/$kernel/modules.builtin && break
    done
    symbols=unread
}

# has MODULE SYMBOL: `found` becomes yes, no, or unknown. SYMBOL is a function that only this module has.
has() {
    found=unknown
    case $modules in *" $1 "*) found=yes ;; esac
    if [ "$found" = yes ] || [ -d "/sys/module/$1" ]; then
        found=yes
    elif [ -n "$builtin_list" ]; then
        found=no
        grep -q "/$1\.ko" "$builtin_list" && found=yes
    else
        if [ "$symbols" = unread ]; then
            symbols=none
            grep -oE " [tT] ($SYMBOLS)([[:space:]]|\$)" /proc/kallsyms >"$work/symbols" 2>/dev/null
            grep -q ' [tT] ip_rcv' "$work/symbols" && symbols='read' # a kernel that hides its symbols shows not even this one
        fi
        if [ "$symbols" = read ]; then
            found=no
            grep -qE " ($2)([[:space:]]|\$)" "$work/symbols" && found=yes
        fi
    fi
    [ "$found" = yes ]
}

TCP_DIAG='tcp_diag_dump|tcp_diag_dump_one|tcp_diag_get_info'
INET_DIAG='inet_diag_dump_icsk|inet_diag_register'
NF_TABLES='nft_do_chain'
NFT_COMPAT='nft_match_eval|nft_match_large_init|nft_target_eval_xt'
CONNTRACK='nf_conntrack_in'
CTNETLINK='ctnetlink_dump_table|ctnetlink_get_conntrack'
IP_SET='ip_set_test'
SYMBOLS="ip_rcv|$TCP_DIAG|$INET_DIAG|$NF_TABLES|$NFT_COMPAT|$CONNTRACK|$CTNETLINK|$IP_SET"

# needs FILE MODULE SYMBOL: true where a program that talks to this module loads nothing by it.
needs() {
    has "$2" "$3" && return 0
    [ "$loads" = no ] && [ "$found" = unknown ] && return 0
    case $found in
        no)
            if [ "$loads" = no ]; then left "$1" "the kernel has no $2"; else left "$1" "the kernel has not loaded $2, and asking would load it"; fi
            ;;
        *) left "$1" "whether the kernel has $2 cannot be told here, and asking could load it" ;;
    esac
    return 1
}

administers() {
    [ "$may_administer" = yes ] && return 0
    left "$1" 'needs root (CAP_NET_ADMIN)'
    return 1
}

# --- running a command ---

# left FILE WHY: the file was not collected.
left() {
    note "$work/failed" "$1" "$2"
    missing=$((missing + 1))
    say "$1 left out: $2"
}

# none FILE WHY [CONTENT]: the kernel itself shows that there is nothing; the file says so.
none() {
    if [ $# -gt 2 ]; then printf '%s\n' "$3"; fi >"$state/$1"
    note "$work/none" "$1" "$2"
    count=$((count + 1))
}

# One line of JSON: "FILE": "WHY", with only plain characters in it.
note() {
    case $3 in
        *[!A-Za-z0-9\ .,:\;\(\)_/-]*) why=$(printf '%s' "$3" | tr -c '\40-\176' ' ' | cut -c1-300 | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g') ;;
        *) why=$3 ;;
    esac
    printf '  "%s": "%s"\n' "$2" "$why" 2>/dev/null >>"$1" || full=yes
}

# Whether something can still be written to the folder for temporary files.
has_room() {
    printf '%8192s' '' 2>/dev/null >"$work/room"
    [ "$(wc -c 2>/dev/null <"$work/room")" -eq 8192 ] 2>/dev/null && rm -f "$work/room" && return 0
    rm -f "$work/room"
    return 1
}

# attempt OUT COMMAND...: runs it within the limits of time and size; its errors go to $work/errors.
attempt() {
    out=$1
    shift
    (
        # shellcheck disable=SC3045 # dash, busybox, bash, ksh and zsh have it
        ulimit -f $((LARGEST * 2048)) # blocks of 512 bytes; with XFSZ ignored the write fails instead of killing
        trap '' XFSZ
        # shellcheck disable=SC2086 # $limit is words
        exec $limit "$@"
    ) >"$out" 2>"$work/errors" </dev/null &
    child=$!
    if [ -z "$limit" ]; then
        # shellcheck disable=SC2064 # the sleep that is meant is this one's
        (sleep "$COMMAND_S" & trap "kill $! 2>/dev/null; exit 0" TERM; wait $! && kill "$child") >/dev/null 2>&1 </dev/null &
        watch=$!
    fi
    wait "$child"
    status=$?
    child=''
    if [ -n "$watch" ]; then
        kill "$watch" 2>/dev/null
        wait "$watch" 2>/dev/null
        watch=''
    fi
    if ! has_room; then # programs do not all notice that their output was cut
        reason='no space was left for its output; TMPDIR names another folder'
        : >"$out"
        return 1
    fi
    [ "$status" -eq 0 ] && return 0
    if [ "$(wc -c <"$out")" -ge $((LARGEST * 1048576)) ]; then
        reason="more than $LARGEST MiB"
    elif [ "$status" -eq 124 ] || [ "$status" -eq 137 ] || [ "$status" -eq 143 ]; then
        reason="$1 took longer than $COMMAND_S seconds"
    else
        reason="$1: $(grep -v '^[[:space:]]*$' "$work/errors" | head -n 1)"
        [ "$reason" = "$1: " ] && reason="$1 ended with status $status"
    fi
    return "$status"
}

is_there() {
    command -v "$2" >/dev/null 2>&1 && return 0
    left "$1" "the program $2 is not installed"
    return 1
}

is_late() {
    learn_time
    [ $((seconds - begun)) -lt "$ALL_S" ] && return 1
    left "$1" "more than $ALL_S seconds were used up before it"
    return 0
}

# take FILE COMMAND...: the command's output becomes the file, or the file is left out whole and the reason noted.
take() {
    file=$1
    shift
    is_there "$file" "$1" || return 1
    is_late "$file" && return 1
    if attempt "$state/$file" "$@"; then
        count=$((count + 1))
        return 0
    fi
    rm -f "$state/$file"
    left "$file" "$reason"
    return 1
}

# take_ip FILE WORDS WORDS: `ip` with the second words where it is too old for the first.
take_ip() {
    file=$1
    json=$2
    text=$3
    is_there "$file" ip || return 1
    is_late "$file" && return 1
    # shellcheck disable=SC2086 # words
    if attempt "$state/$file" ip $json || attempt "$state/$file" ip $text; then
        count=$((count + 1))
        return 0
    fi
    rm -f "$state/$file"
    left "$file" "$reason"
    return 1
}

copy() {
    if [ ! -r "$2" ]; then
        if [ -e "$2" ]; then left "$1" "$2 cannot be read without root"; else left "$1" "$2 is not there"; fi
        return 1
    fi
    take "$1" cat "$2"
}

# --- what is collected ---

collect_all() {
    collect_sockets
    collect_haproxy
    collect_counters
    collect_conntrack
    collect_ipvs
    collect_links
    collect_rules
    collect_sysctls
    collect_rest
}

collect_sockets() {
    if is_there ss-tcp.txt ss && needs ss-tcp.txt tcp_diag "$TCP_DIAG" && needs ss-tcp.txt inet_diag "$INET_DIAG" &&
        take ss-tcp.txt ss -tanpioem; then
        [ "$(id -u)" = 0 ] || note "$work/failed" ss-tcp.txt "the names of other users' processes need root; all sockets are there"
        return
    fi
    copy proc-net-tcp.txt /proc/net/tcp
    [ -e /proc/net/tcp6 ] && copy proc-net-tcp6.txt /proc/net/tcp6
}

# The sockets that HAProxy's processes answer on, each with its path in the file system: those of this network namespace that are
# named after it, or that the configuration of the machine names. While it binds one, HAProxy gives it another name: PATH.PID.tmp.
haproxy_sockets() {
    sed -n -E 's/^[^:]*: [0-9A-F]+ [0-9A-F]+ 00010000 0001 [0-9A-F]+ +[0-9]+ (\/[^@, ]*)$/\1/p' /proc/net/unix 2>/dev/null |
        sed -E 's/\.[0-9]+\.tmp$//' | sort -u >"$work/listening"
    sed -n -E 's/^[[:space:]]*stats[[:space:]]+socket[[:space:]]+(unix@)?(\/[^@, ]+).*/\2/p' /etc/haproxy/*.cfg /etc/haproxy/conf.d/*.cfg \
        /usr/local/etc/haproxy/*.cfg /etc/hapee-*/*.cfg 2>/dev/null | sort -u >"$work/configured"
    { grep -E 'haproxy|hapee' "$work/listening"; grep -x -F -f "$work/configured" "$work/listening"; } | sort -u | head -n 16
}

# is_plain PATH: whoever makes a socket names it, and socat takes `!!`, colons, quotes and brackets for more than a path (socat(1), "Address
# specifications"): of a name with `!!EXEC:` it would run a program.
is_plain() {
    case $1 in *[!A-Za-z0-9._/+=~-]*) return 1 ;; esac
}

# ask_haproxy OUT SOCKET COMMAND: its answer; the program that asks waits for HAProxy to end the connection.
ask_haproxy() {
    # shellcheck disable=SC2016 # for the shell that it is given to
    case $talker in
        socat) attempt "$1" sh -c 'printf "%s\n" "$2" | socat -t 15 - "UNIX-CONNECT:$1"' sh "$2" "$3" ;;
        *) attempt "$1" sh -c 'printf "%s\n" "$2" | "$3" -U "$1"' sh "$2" "$3" "$talker" ;;
    esac
}

collect_haproxy() {
    haproxy_sockets >"$work/sockets"
    if [ ! -s "$work/sockets" ]; then
        if [ -r /proc/net/unix ]; then
            none haproxy-sessions.txt 'no process of this network namespace listens on a stats socket of HAProxy'
        else
            left haproxy-sessions.txt '/proc/net/unix is not there'
        fi
        return
    fi
    talker=''
    for program in socat nc ncat; do
        command -v "$program" >/dev/null 2>&1 || continue
        [ "$program" = nc ] && ! nc -h 2>&1 </dev/null | grep -q -e '-[0-9A-Za-z]*U' && continue # netcat-traditional and busybox have no -U
        talker=$program
        break
    done
    if [ -z "$talker" ]; then
        left haproxy-sessions.txt 'neither socat nor an nc that knows -U is installed'
        return
    fi
    file=haproxy-sessions.txt number=1 known=' ' why=''
    while read -r socket; do
        [ -e "$state/haproxy-sessions-4.txt" ] && break
        if is_late_for_haproxy; then
            why="more than $ALL_S seconds were used up before it"
        elif ! is_plain "$socket"; then
            why="$socket has signs in its name that no stats socket needs, and is not asked"
        elif [ ! -w "$socket" ]; then
            why="$socket cannot be written without root"
        elif ! ask_haproxy "$work/more" "$socket" 'show info'; then
            why="$socket: $reason"
        else
            process=$(sed -n 's/^Pid: //p' "$work/more")
            case $known in *" ${process:-none} "*) continue ;; esac # a process may have several sockets
            if ! ask_haproxy "$state/$file" "$socket" 'show sess'; then
                why="$socket: $reason"
            elif ! head -n 1 "$state/$file" | grep -q '^0x'; then # it shows the session that asks, if nothing else
                why="$socket: $(head -n 1 "$state/$file" | cut -c1-100)"
            else
                take_all_sessions
                known="$known$process "
                count=$((count + 1)) number=$((number + 1))
                file=haproxy-sessions-$number.txt
                continue
            fi
            rm -f "$state/$file"
        fi
    done <"$work/sockets"
    [ -e "$state/haproxy-sessions.txt" ] || left haproxy-sessions.txt "${why:-no stats socket of HAProxy answered}"
    rm -f "$work/more"
}

is_late_for_haproxy() {
    learn_time
    [ $((seconds - begun)) -ge "$ALL_S" ]
}

# `show sess all` costs HAProxy much (management.txt, "show sess"): where there are many sessions the short form stays.
take_all_sessions() {
    if [ "$(wc -l <"$state/$file")" -gt "$MOST_SESSIONS" ]; then
        note "$work/failed" "$file" "more than $MOST_SESSIONS sessions, for which show sess all is a burden; show sess stands there"
    elif ask_haproxy "$work/more" "$socket" 'show sess all' && head -n 1 "$work/more" | grep -q '^0x'; then
        cat "$work/more" >"$state/$file" || full=yes
    else
        note "$work/failed" "$file" "show sess all failed, show sess stands there: ${reason:-no answer}"
    fi
}

collect_counters() {
    take nstat.txt nstat -asz && return # -s: nstat keeps no history file
    copy proc-net-netstat.txt /proc/net/netstat
    copy proc-net-snmp.txt /proc/net/snmp
}

collect_conntrack() {
    if ! has nf_conntrack "$CONNTRACK" && [ "$found" = no ]; then
        none conntrack.txt 'the kernel has not loaded nf_conntrack'
        none conntrack-stats.txt 'the kernel has not loaded nf_conntrack'
        return
    fi
    taken=no
    if [ "$may_administer" = yes ] && command -v conntrack >/dev/null 2>&1; then
        if has nf_conntrack_netlink "$CTNETLINK" || [ "$loads" = no ]; then
            take conntrack-stats.txt conntrack -S
            if take conntrack.txt conntrack -L -o extended; then
                taken=yes
                # before 1.4.6 one family was printed at a time
                if ! grep -q '^ipv6 ' "$state/conntrack.txt" && attempt "$work/more" conntrack -f ipv6 -L -o extended; then
                    cat "$work/more" >>"$state/conntrack.txt" || full=yes
                fi
                rm -f "$work/more"
            fi
        fi
    fi
    [ "$taken" = yes ] && return
    if [ -r /proc/net/nf_conntrack ]; then
        take conntrack.txt cat /proc/net/nf_conntrack
    elif administers conntrack.txt && is_there conntrack.txt conntrack; then
        needs conntrack.txt nf_conntrack_netlink "$CTNETLINK"
    fi
    [ -e "$state/conntrack-stats.txt" ] || copy conntrack-stats.txt /proc/net/stat/nf_conntrack
}

collect_ipvs() {
    # ipvsadm itself calls modprobe where ip_vs is absent; DPVS's program of that name talks to DPVS's socket
    if [ ! -e /proc/net/ip_vs ] && [ ! -S /var/run/dpvs.ipc ]; then
        none ipvsadm-rules.txt 'the kernel has not loaded ip_vs'
        none ipvsadm-connections.txt 'the kernel has not loaded ip_vs'
        return
    fi
    if administers ipvsadm-rules.txt && take ipvsadm-rules.txt ipvsadm -S -n; then
        take ipvsadm-connections.txt ipvsadm -L -n -c
    fi
    [ -e "$state/ipvsadm-rules.txt" ] || copy proc-net-ip_vs.txt /proc/net/ip_vs
    # also beside ipvsadm's own listing: Alibaba's ipvsadm misprints the connections of full NAT
    [ -e /proc/net/ip_vs_conn ] && copy proc-net-ip_vs_conn.txt /proc/net/ip_vs_conn
}

collect_links() {
    take_ip ip-link.json '-j -d -s link' '-d -s link'
    take_ip ip-addr.json '-j -d addr' '-d addr'
    take_ip ip-neigh.json '-j -d neigh' '-d neigh'
    take_ip ip-route.json '-j -d route show table all' 'route show table all'
    take_ip ip-rule.json '-j -d rule' 'rule'
    if [ -e /proc/net/if_inet6 ]; then
        take_ip ip6-route.json '-6 -j -d route show table all' '-6 route show table all'
        take_ip ip6-rule.json '-6 -j -d rule' '-6 rule'
    else
        none ip6-route.json 'the kernel has no IPv6' '[]'
        none ip6-rule.json 'the kernel has no IPv6' '[]'
    fi
    if take_ip ip-route-cache.txt '-s route show cache' 'route show cache' && [ -e /proc/net/if_inet6 ] &&
        attempt "$work/more" ip -6 route show cache; then
        cat "$work/more" >>"$state/ip-route-cache.txt" || full=yes
    fi
    rm -f "$work/more"
}

collect_rules() {
    has nf_tables "$NF_TABLES"
    nf_tables=$found
    has nft_compat "$NFT_COMPAT"
    nft_compat=$found
    if [ "$nf_tables" = no ]; then
        none nft-ruleset.json 'the kernel has not loaded nf_tables' '{"nftables": []}'
    elif administers nft-ruleset.json && needs nft-ruleset.json nf_tables "$NF_TABLES"; then
        take nft-ruleset.json nft -j list ruleset || take nft-ruleset.txt nft -a list ruleset # it may be built without JSON
    fi
    save_family iptables ip_tables
    save_family ip6tables ip6_tables
    if ! has ip_set "$IP_SET" && [ "$found" = no ]; then
        none ipset.txt 'the kernel has not loaded ip_set'
    elif administers ipset.txt && needs ipset.txt ip_set "$IP_SET"; then
        take ipset.txt ipset save
    fi
}

# variant PROGRAM: `legacy` or `nft`, by the version that stands in it. Asking it would not do: `iptables -V` of the nft variant
# makes the kernel load nfnetlink, and iptables-save before 1.8 knows no -V.
variant() {
    if grep -q nf_tables "$(command -v "$1")" 2>/dev/null; then echo nft; else echo legacy; fi
}

# save_family NAME MODULE: the rules of both variants. iptables-save calls modprobe where a table is not there, so only the
# tables that the kernel shows are asked for, and -M names a program that does nothing.
save_family() {
    legacy='' nft=''
    for program in "$1-legacy-save" "$1-save" "$1-nft-save"; do
        command -v "$program" >/dev/null 2>&1 || continue
        case $program in
            *-legacy-save) legacy=$program ;;
            *-nft-save) nft=$program ;;
            *) if [ "$(variant "$program")" = nft ]; then nft=$program; else legacy=${legacy:-$program}; fi ;;
        esac
    done
    if [ ! -e "/proc/net/$2_names" ] && [ "$nf_tables" = no ]; then
        none "$1-save.txt" "the kernel has loaded neither $2 nor nf_tables"
        return
    fi
    administers "$1-save.txt" || return
    saved=no
    if [ -n "$nft" ] && [ "$nf_tables" = yes ]; then
        if [ "$nft_compat" = yes ] || [ "$loads" = no ]; then
            take "$1-save.txt" "$nft" -M /bin/true -c && saved=yes
        else
            [ -s "/proc/net/$2_names" ] || left "$1-save.txt" "$nft could make the kernel load nft_compat; nft-ruleset.json has its rules"
        fi
    fi
    # /proc files have no size: whether there are tables is told by reading
    if [ -n "$(cat "/proc/net/$2_names" 2>/dev/null)" ]; then
        target=$1-save.txt
        [ "$saved" = yes ] && target=$1-legacy-save.txt
        if [ -n "$legacy" ]; then
            take "$target" "$legacy" -M /bin/true -c
        else
            left "$target" "the kernel has tables of $2, and no legacy $1-save is installed"
        fi
    elif [ "$saved" = no ] && [ "$nf_tables" = no ]; then
        none "$1-save.txt" "the kernel has no table of $2 and has not loaded nf_tables"
    elif [ "$saved" = no ] && [ -z "$nft" ]; then
        left "$1-save.txt" "no $1-save for nf_tables is installed; nft-ruleset.json has its rules"
    elif [ "$saved" = no ] && [ "$nf_tables" = unknown ]; then
        left "$1-save.txt" 'whether the kernel has nf_tables cannot be told here, and asking could load it'
    fi
}

collect_sysctls() {
    is_late sysctl.txt && return
    if sysctl --help 2>/dev/null </dev/null | grep -q -e --pattern; then
        attempt "$work/sysctls" sysctl -a --pattern '^net[.]'
    else
        attempt "$work/sysctls" sh -c "$WALK"
    fi
    # keys that are secrets, and of no use here
    grep -v -e '[.]tcp_fastopen_key ' -e '[.]stable_secret ' "$work/sysctls" >"$state/sysctl.txt"
    [ $? -gt 1 ] && full=yes
    rm -f "$work/sysctls"
    if [ -s "$state/sysctl.txt" ]; then # a key that may not be read makes sysctl fail; the others are there
        count=$((count + 1))
    else
        rm -f "$state/sysctl.txt"
        left sysctl.txt "$reason"
    fi
}

# The same without a sysctl that knows patterns. Old kernels complain in their log where base_reachable_time or retrans_time is read.
# shellcheck disable=SC2016 # for the shell that it is given to
WALK='
walk() {
    for entry in "$1"/*; do [ -d "$entry" ] && walk "$entry"; done
    set -- "$1"/*
    left=$#
    while [ "$left" -gt 0 ]; do
        case $1 in */base_reachable_time | */retrans_time | */stable_secret | */tcp_fastopen_key) ;; *) [ -f "$1" ] && set -- "$@" "$1" ;; esac
        shift
        left=$((left - 1))
    done
    [ $# -gt 0 ] && grep -s "" "$@" /dev/null
}
walk /proc/sys/net | sed -e "s|^/proc/sys/||" -e h -e "s/:.*//" -e "y|./|/.|" -e G -e "s/\n[^:]*:/ = /"
'

collect_rest() {
    if take tc.txt tc -s qdisc; then
        # filters hang on devices; most devices cannot have one
        sed -n -E 's/^qdisc (clsact|ingress|htb|hfsc|prio|cbq|drr|qfq) .* dev ([^ ]+) .*/\2/p' "$state/tc.txt" | sort -u | head -n 64 >"$work/devices"
        while read -r device; do
            for hook in root ingress egress; do
                is_late tc.txt && break 2
                attempt "$work/more" tc -s filter show dev "$device" $hook || continue
                [ -s "$work/more" ] || continue
                { echo "# tc -s filter show dev $device $hook"; cat "$work/more"; } >>"$state/tc.txt" || full=yes
            done
        done <"$work/devices"
        rm -f "$work/more"
    fi
    if administers bpf-net.txt && take bpf-net.txt bpftool net && attempt "$work/more" bpftool cgroup tree; then
        { echo '# bpftool cgroup tree'; cat "$work/more"; } >>"$state/bpf-net.txt" || full=yes
    fi
    if take dmesg-net.txt dmesg; then
        grep -iE 'conntrack|martian|ll header|nf_|netfilter|iptables|nft|TCP|IPv[46]|IPVS|SYN flood|neigh|arp|NETDEV|net_ratelimit|link (is )?(up|down)' \
            "$state/dmesg-net.txt" | tail -n 5000 >"$work/more"
        cat "$work/more" >"$state/dmesg-net.txt" || full=yes
    fi
    rm -f "$work/more"
}

# --- what goes out ---

object() {
    sed -e '$!s/$/,/' "$1"
}

write_host() {
    uptime=$(cut -d ' ' -f 1 /proc/uptime 2>/dev/null)
    {
        printf '{\n "name": "%s",\n' "$name"
        printf ' "hostname": "%s",\n' "$(printf '%s' "$hostname" | tr -c 'A-Za-z0-9._-' '_')"
        printf ' "kernel": "%s",\n' "$(printf '%s' "$kernel" | tr -c 'A-Za-z0-9._+~-' '_')"
        printf ' "time": "%s",\n "utc_offset": "%s",\n' "${moment%?????}$offset" "$offset"
        printf ' "uptime_s": %s,\n' "${uptime:-null}"
        printf ' "failed": {\n'
        object "$work/failed"
        printf ' },\n "none": {\n'
        object "$work/none"
        printf ' }\n}\n'
    } >"$state/host.json"
    count=$((count + 1))
}

zeros() {
    head -c "$1" /dev/zero
}

# member NAME SIZE MODE TYPE: a header of ustar (POSIX pax, "ustar Interchange Format"). The host may have no tar.
member() {
    mtime=$(printf '%011o' "$started")
    : >"$work/header"
    {
        printf '%s' "$1"
        zeros $((100 - ${#1}))
        printf '%s\0%s\0%s\0%011o\0%s\0' "$3" 0000000 0000000 "$2" "$mtime"
        printf '        %s' "$4"
        zeros 100
        printf 'ustar\00000'
        zeros 247
    } >"$work/header"
    sum=0
    for byte in $(od -An -v -tu1 "$work/header"); do
        sum=$((sum + byte))
    done
    head -c 148 "$work/header" && printf '%06o\0 ' "$sum" && tail -c 356 "$work/header"
}

write_archive() {
    member "$name/" 0 0000700 5 && member "$name/state/" 0 0000700 5 || return 1
    for path in "$state"/*; do
        size=$(wc -c <"$path" | tr -d ' ')
        member "$name/state/${path##*/}" "$size" 0000600 0 && cat "$path" || return 1
        [ $((size % 512)) -eq 0 ] || zeros $((512 - size % 512)) || return 1
    done
    zeros 1024
}

main "$@"
