# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_stream_bench_global_optspecs
    string join \n h/help V/version
end

function __fish_stream_bench_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_stream_bench_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_stream_bench_using_subcommand
    set -l cmd (__fish_stream_bench_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c stream-bench -n "__fish_stream_bench_needs_command" -s h -l help -d 'Print help'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -s V -l version -d 'Print version'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "pull" -d 'Fetch files over HTTP'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "push" -d 'Send frames, or upload over HTTP'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "stream" -d 'Ask a control plane for streams'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "connections" -d 'Hold many connections, idle or slowly reading, and probe meanwhile'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "mixed" -d 'Fetch hot small files while cold large ones are pulled from a slow device'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "compare" -d 'Run a set of scenarios on streamd and its peers in turn'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "report" -d 'Turn results into one page with plots'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "ceiling-server" -d 'The least work that can serve files; started by compare'
complete -c stream-bench -n "__fish_stream_bench_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l server-pid -d 'Process id of the server, whose cost is then measured too' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -s c -l connections -d 'Connections at once' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l rate -d 'Requests a second, begun whatever the answers do; latency counts from the intended start. Up to 10,000,000, and at least one within --duration' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l threads -d 'Client threads, each with a ring' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l client-cores -d 'Cores of the client, separated by commas; by default wherever the kernel puts it' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l client-mode -d 'What becomes of received bytes' -r -f -a "discard\t'Dropped inside the kernel: the client costs next to nothing'
read\t'Copied into fixed buffers, as a real client does'"
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l duration -d 'Seconds for which the clock runs, up to 3600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l warm-up -d 'Seconds before the clock starts, up to 600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l json -d 'Write the result as JSON too; whether that is possible is seen before the run' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l allow-remote -d 'Allow a server outside the loopback range'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -l no-keep-alive -d 'A new connection for each request'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l server-pid -d 'Process id of the server, whose cost is then measured too' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l put -d 'Upload over HTTP instead, each connection to this path with its number: PATH-0, PATH-1. None may exist; they are removed at the end' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l size -d 'Bytes of each payload (64MiB, 1GB)' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -s c -l connections -d 'Connections at once' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l threads -d 'Client threads, each with a ring' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l client-cores -d 'Cores of the client, separated by commas; by default wherever the kernel puts it' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l client-mode -d 'What becomes of received bytes' -r -f -a "discard\t'Dropped inside the kernel: the client costs next to nothing'
read\t'Copied into fixed buffers, as a real client does'"
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l duration -d 'Seconds for which the clock runs, up to 3600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l warm-up -d 'Seconds before the clock starts, up to 600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l json -d 'Write the result as JSON too; whether that is possible is seen before the run' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -l allow-remote -d 'Allow a server outside the loopback range'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l server-pid -d 'Process id of the server, whose cost is then measured too' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l size -d 'Bytes of each stream (169, 1GiB)' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -s c -l connections -d 'Connections at once' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l threads -d 'Client threads, each with a ring' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l client-cores -d 'Cores of the client, separated by commas; by default wherever the kernel puts it' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l client-mode -d 'What becomes of received bytes' -r -f -a "discard\t'Dropped inside the kernel: the client costs next to nothing'
read\t'Copied into fixed buffers, as a real client does'"
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l duration -d 'Seconds for which the clock runs, up to 3600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l warm-up -d 'Seconds before the clock starts, up to 600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l json -d 'Write the result as JSON too; whether that is possible is seen before the run' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -l allow-remote -d 'Allow a server outside the loopback range'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand stream" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l server-pid -d 'Process id of the server, whose cost is then measured too' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -s c -l connections -d 'Connections to hold' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l read-rate -d 'Bytes a second that each connection reads; idle without' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l threads -d 'Client threads, each with a ring' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l client-cores -d 'Cores of the client, separated by commas; by default wherever the kernel puts it' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l client-mode -d 'What becomes of received bytes' -r -f -a "discard\t'Dropped inside the kernel: the client costs next to nothing'
read\t'Copied into fixed buffers, as a real client does'"
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l duration -d 'Seconds for which the clock runs, up to 3600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l warm-up -d 'Seconds before the clock starts, up to 600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l json -d 'Write the result as JSON too; whether that is possible is seen before the run' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -l allow-remote -d 'Allow a server outside the loopback range'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand connections" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l server-pid -d 'Process id of the server, whose cost is then measured too' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -s c -l connections -d 'Connections with hot requests' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l rate -d 'Requests a second for the hot file, begun whatever the answers do' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l cold-pulls -d 'Cold pulls at once' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l cold-root -d 'Directory of this host that the server serves: each pull then has a file of its own, which is pushed out of the page cache before it, and that is checked. Without it nobody knows whether they are cold, and the result says so' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l threads -d 'Client threads, each with a ring' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l client-cores -d 'Cores of the client, separated by commas; by default wherever the kernel puts it' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l client-mode -d 'What becomes of received bytes' -r -f -a "discard\t'Dropped inside the kernel: the client costs next to nothing'
read\t'Copied into fixed buffers, as a real client does'"
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l duration -d 'Seconds for which the clock runs, up to 3600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l warm-up -d 'Seconds before the clock starts, up to 600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l json -d 'Write the result as JSON too; whether that is possible is seen before the run' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -l allow-remote -d 'Allow a server outside the loopback range'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand mixed" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l peers -d 'Peers in the order of their turns; the first is what the others are compared with' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l set -d 'How much is run' -r -f -a "quick\t'One counted round of 0.3 s: enough to see that everything works, too little for a claim'
full\t'Five counted rounds of 1 s'"
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l only -d 'Only the scenarios whose id contains this' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l rounds -d 'Counted rounds, instead of the set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l streamd -d 'The daemon\'s binary' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l streamd-before -d 'Another build of the daemon, measured as the peer streamd-before' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l directory -d 'Directory for files and configurations, empty or of an earlier run; kept, so that a next run finds its files' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l slow -d 'Directory below root/ of --directory that lies on a slow device, for the mixed scenarios, which are left out without it' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l slow-cgroup -d 'The cgroup.procs file of the cgroup that slows that device (scripts/slow-device.sh names it)' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l put-directory -d 'Directories below root/ of --directory that are uploaded to, separated by commas, each on a file system to be measured; without them no uploads are. With --slow some go to the slow device, which must write slowly too' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l server-cores -d 'Cores of the servers, separated by commas' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l workers -d 'Workers of each server' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l time-max -d 'Minutes after which no further measurement is begun' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l threads -d 'Client threads, each with a ring' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l client-cores -d 'Cores of the client, separated by commas; by default wherever the kernel puts it' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l client-mode -d 'What becomes of received bytes' -r -f -a "discard\t'Dropped inside the kernel: the client costs next to nothing'
read\t'Copied into fixed buffers, as a real client does'"
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l duration -d 'Seconds for which the clock runs, up to 3600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l warm-up -d 'Seconds before the clock starts, up to 600; compare takes its set\'s' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -l json -d 'Write the result as JSON too; whether that is possible is seen before the run' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand compare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand report" -s o -l output -d 'The page to write' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand report" -s h -l help -d 'Print help'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand ceiling-server" -l listen -d 'Where to serve files' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand ceiling-server" -l push-listen -d 'Where to take frames' -r
complete -c stream-bench -n "__fish_stream_bench_using_subcommand ceiling-server" -l root -d 'Files to serve' -r -F
complete -c stream-bench -n "__fish_stream_bench_using_subcommand ceiling-server" -s h -l help -d 'Print help'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "pull" -d 'Fetch files over HTTP'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "push" -d 'Send frames, or upload over HTTP'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "stream" -d 'Ask a control plane for streams'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "connections" -d 'Hold many connections, idle or slowly reading, and probe meanwhile'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "mixed" -d 'Fetch hot small files while cold large ones are pulled from a slow device'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "compare" -d 'Run a set of scenarios on streamd and its peers in turn'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "report" -d 'Turn results into one page with plots'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "ceiling-server" -d 'The least work that can serve files; started by compare'
complete -c stream-bench -n "__fish_stream_bench_using_subcommand help; and not __fish_seen_subcommand_from pull push stream connections mixed compare report ceiling-server help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
