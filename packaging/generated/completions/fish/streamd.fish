complete -c streamd -l config -d 'TOML file; /etc/streamd/streamd.toml is read if present' -r -F
complete -c streamd -l root -d 'Directory whose files are served over HTTP on the data port' -r -F
complete -c streamd -l data-listen -d 'Address of the data plane; port 0 takes a free one [default: 0.0.0.0:8080]' -r
complete -c streamd -l control-listen -d 'Address of the control plane; port 0 takes a free one [default: 127.0.0.1:8081]' -r
complete -c streamd -l workers -d 'Data-plane threads, one per usable core by default' -r
complete -c streamd -l sink -d 'Where the payload of incoming frames goes [default: discard]' -r -f -a "discard\t'Counted and dropped inside the kernel'
store\t'Written to the spool directory; acknowledged once it is durable'"
complete -c streamd -l spool -d 'Directory of stored frames, for --sink store' -r -F
complete -c streamd -l listing -d 'Answer directories with their listing [default: false]' -r -f -a "true\t''
false\t''"
complete -c streamd -l uploads -d 'Take uploads below the root; on a data address that other hosts reach they need the token [default: false]' -r -f -a "true\t''
false\t''"
complete -c streamd -l create-dirs -d 'Make the directories that an upload\'s name goes through [default: false]' -r -f -a "true\t''
false\t''"
complete -c streamd -l durability -d 'What an upload is that was acknowledged: on disk, or in memory [default: fsync]' -r -f -a "fsync\t'On disk, with its name'
none\t'In the page cache: a host that loses power within the next half minute loses it too'"
complete -c streamd -l partial-ttl -d 'How long an upload that isn\'t gone on with is kept (90s, 24h, 7days) [default: 1day]' -r
complete -c streamd -l upload-bytes-max -d 'Longest upload that is taken [default: 1TiB]' -r
complete -c streamd -l uploads-max -d 'Uploads that are written at once [default: 256]' -r
complete -c streamd -l uploads-per-destination-max -d 'Uploads that are written at once to one name [default: 16]' -r
complete -c streamd -l direct-bytes-min -d 'Rest of a body from which on it is written past the page cache (O_DIRECT), with durability fsync; 0 for never [default: 64MiB]' -r
complete -c streamd -l min-free-bytes -d 'Bytes of the file system that uploads leave free [default: 64MiB]' -r
complete -c streamd -l engine -d 'How bytes move [default: auto]' -r -f -a "auto\t'Decided per window from its length and from whether it is hot'
sendfile\t'Non-blocking sendfile(2)'
splice\t'splice(2) through a pipe'
copy\t'Read into a buffer, then send it'"
complete -c streamd -l driver -d 'What drives the workers [default: auto]' -r -f -a "auto\t'io_uring where the kernel grants it, else epoll, and says so'
uring\t'io_uring or nothing: start-up fails where it is refused'
epoll\t'epoll'"
complete -c streamd -l sandbox -d 'Give up all capabilities, and all files but what is served and read [default: auto]' -r -f -a "auto\t'Whatever the kernel can take away, and says what it can\'t'
required\t'Everything or nothing: start-up fails where Landlock or the dropping of capabilities isn\'t to be had'
off\t'Nothing'"
complete -c streamd -l log-format -d 'How log lines look [default: text]' -r -f -a "text\t'One line of text for people'
json\t'One JSON object a line for machines'"
complete -c streamd -l log-level -d 'The least severe level that is logged [default: info]' -r -f -a "error\t'What needs a person'
warn\t'What may soon need a person'
info\t'Changes of state, and the access lines'
debug\t'What each connection does'
trace\t'Everything'"
complete -c streamd -l access-log -d 'Write one line per transfer [default: true]' -r -f -a "true\t''
false\t''"
complete -c streamd -l token-file -d 'File that holds the bearer token of the control plane and of uploads' -r -F
complete -c streamd -l targets-allowed -d 'Where streams may go besides the own data plane: HOST:PORT, NETWORK/BITS:PORT, port * for any [default: none]' -r
complete -c streamd -l frame-bytes-max -d 'Largest frame that is taken [default: 1TiB]' -r
complete -c streamd -l stream-bytes-max -d 'Largest stream that POST /stream starts [default: 1TiB]' -r
complete -c streamd -l spool-bytes-max -d 'Most bytes that stored frames may take up together [default: 16GiB]' -r
complete -c streamd -l streams-max -d 'Streams that run at once [default: 64]' -r
complete -c streamd -l connections-max -d 'Data connections at once [default: 30000]' -r
complete -c streamd -l control-connections-max -d 'Control connections at once [default: 1024]' -r
complete -c streamd -l disk-threads -d 'Threads for what may wait for a disk [default: 16]' -r
complete -c streamd -l cache-valid-ms -d 'Time for which a file that was opened is served without a look at its name; 0 looks each time [default: 1000]' -r
complete -c streamd -l head-timeout-ms -d 'Time for a request head to be complete [default: 10000]' -r
complete -c streamd -l idle-timeout-ms -d 'Time that a connection may wait for its next request [default: 75000]' -r
complete -c streamd -l send-timeout-ms -d 'Time without progress after which sending is given up [default: 60000]' -r
complete -c streamd -l receive-timeout-ms -d 'Time without progress after which receiving a frame is given up [default: 60000]' -r
complete -c streamd -l connect-timeout-ms -d 'Time for a stream\'s target to accept the connection [default: 10000]' -r
complete -c streamd -l target-timeout-ms -d 'Time that a stream\'s target may stay silent [default: 60000]' -r
complete -c streamd -l drain-timeout-ms -d 'Time for transfers in flight to finish when the daemon stops [default: 30000]' -r
complete -c streamd -l congestion-control -d 'TCP congestion control of data connections (cubic, bbr); the host\'s default where unset' -r
complete -c streamd -l check -d 'Check the configuration and the host, bind nothing, and say what is missing'
complete -c streamd -l print-config -d 'Print the settings in force as TOML and exit'
complete -c streamd -s h -l help -d 'Print help (see more with \'--help\')'
complete -c streamd -s V -l version -d 'Print version'
