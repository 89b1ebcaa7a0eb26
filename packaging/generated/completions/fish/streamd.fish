complete -c streamd -l config -d 'Other than /etc/streamd/streamd.toml' -r -F
complete -c streamd -l path -d 'With --check: say where this path of a URL leads, which share decides, and what is in force there' -r
complete -c streamd -l root -d 'Directory whose files are served' -r -f -a "(__fish_complete_directories)"
complete -c streamd -l roots-allowed -d 'Directories below which a reload may bring further shares: the sandbox hides all else' -r
complete -c streamd -l data-listen -d 'Files and frames [0.0.0.0:8080]' -r
complete -c streamd -l control-listen -d 'Health and metrics [127.0.0.1:8081]' -r
complete -c streamd -l workers -d 'Threads that serve the data plane' -r
complete -c streamd -l sink -d 'Where the payload of incoming frames goes' -r -f -a "discard\t'Counted and dropped inside the kernel'
store\t'Written to the spool directory; acknowledged once it is durable'"
complete -c streamd -l spool -d 'Directory of stored frames, for --sink store' -r -f -a "(__fish_complete_directories)"
complete -c streamd -l uploads-max -d 'Uploads that are written at once' -r
complete -c streamd -l uploads-per-destination-max -d 'Uploads that are written at once to one name' -r
complete -c streamd -l engine -d 'How bytes move' -r -f -a "auto\t'Decided per window from its length and from whether it is hot'
sendfile\t'Non-blocking sendfile(2)'
splice\t'splice(2) through a pipe'
copy\t'Read into a buffer, then send it'"
complete -c streamd -l driver -d 'What drives the workers' -r -f -a "auto\t'io_uring where the kernel grants it, else epoll, and says so'
uring\t'io_uring or nothing: start-up fails where it is refused'
epoll\t'epoll'"
complete -c streamd -l sandbox -d 'Give up all capabilities, and all files but what is served and read' -r -f -a "auto\t'Whatever the kernel can take away, and says what it can\'t'
required\t'Everything or nothing: start-up fails where Landlock or the dropping of capabilities isn\'t to be had'
off\t'Nothing'"
complete -c streamd -l log-format -d 'How log lines look' -r -f -a "text\t'One line of text for people'
json\t'One JSON object a line for machines'"
complete -c streamd -l log-level -d 'The least severe level that is logged' -r -f -a "error\t'What needs a person'
warn\t'What may soon need a person'
info\t'Changes of state, and the access lines'
debug\t'What each connection does'
trace\t'Everything'"
complete -c streamd -l access-log -d 'Write one line per transfer' -r -f -a "true\t''
false\t''"
complete -c streamd -l token-file -d 'File that holds the bearer token' -r -F
complete -c streamd -l hosts-allowed -d 'Hosts that requests on the data port may be for, besides its own names: names and addresses, * for any; where none is listed, any but on a loopback address' -r
complete -c streamd -l trusted-proxies -d 'Proxies that are believed whom they stand for, by PROXY protocol, Forwarded and X-Forwarded-For: addresses and networks (10.0.0.0/8), and unix: for who connects by a Unix socket' -r
complete -c streamd -l proxy-protocol -d 'Whether connections to data_listen begin with a PROXY protocol header, version 1 or 2' -r -f -a "off\t'None does: what begins with one is refused'
optional\t'Those of trusted proxies may'
required\t'Those of trusted proxies must, and nobody else connects'"
complete -c streamd -l targets-allowed -d 'Where streams may go besides the own data plane: HOST:PORT, NETWORK/BITS:PORT, port * for any' -r
complete -c streamd -l frame-bytes-max -d 'Largest frame that is taken' -r
complete -c streamd -l stream-bytes-max -d 'Largest stream that POST /stream starts' -r
complete -c streamd -l spool-bytes-max -d 'Most bytes that stored frames may take up together, each at least a block of the file system' -r
complete -c streamd -l spool-files-max -d 'Most stored frames' -r
complete -c streamd -l address-spool-bytes-max -d 'Most bytes that the stored frames of one address may take up; 0 for half of spool_bytes_max' -r
complete -c streamd -l address-spool-files-max -d 'Most stored frames of one address; 0 for half of spool_files_max' -r
complete -c streamd -l waiting-bytes-max -d 'Most memory for answers that wait for their readers: listings, metrics, lists of streams' -r
complete -c streamd -l streams-max -d 'Streams that run at once' -r
complete -c streamd -l connections-max -d 'Data connections at once' -r
complete -c streamd -l control-connections-max -d 'Control connections at once' -r
complete -c streamd -l address-connections-max -d 'Connections of one address at once, of both planes; loopback isn\'t one address' -r
complete -c streamd -l address-uploads-max -d 'Uploads of one address at once' -r
complete -c streamd -l address-streams-max -d 'Streams of one address at once' -r
complete -c streamd -l address-listings-max -d 'Listings that one address is sent at once' -r
complete -c streamd -l disk-threads -d 'Threads for what may wait for a disk' -r
complete -c streamd -l disk-timeout-ms -d 'Time for which a mount may end nothing before what needs it gets 503; uploads wait ten times as long' -r
complete -c streamd -l cache-valid-ms -d 'Time for which a file that was opened is served without a look at its name; 0 looks each time' -r
complete -c streamd -l head-timeout-ms -d 'Time for a request head to be complete' -r
complete -c streamd -l idle-timeout-ms -d 'Time that a connection may wait for its next request' -r
complete -c streamd -l send-timeout-ms -d 'Time without progress after which sending is given up' -r
complete -c streamd -l receive-timeout-ms -d 'Time without progress after which receiving a frame is given up' -r
complete -c streamd -l progress-bytes-min -d 'Bytes a second that a peer has to move while it is waited for; 0 for none' -r
complete -c streamd -l progress-interval-ms -d 'Time over which progress_bytes_min is measured' -r
complete -c streamd -l connect-timeout-ms -d 'Time for a stream\'s target to accept the connection' -r
complete -c streamd -l target-timeout-ms -d 'Time that a stream\'s target may stay silent' -r
complete -c streamd -l drain-timeout-ms -d 'Time for transfers in flight to finish when the daemon stops' -r
complete -c streamd -l congestion-control -d 'TCP congestion control of data connections (cubic, bbr)' -r
complete -c streamd -l listing -d 'Answer directories with a listing' -r -f -a "true\t''
false\t''"
complete -c streamd -l index -d 'Files that answer for their directory, the first that there is' -r
complete -c streamd -l hidden -d 'Names that nobody sees who may not write: 404, and in no listing' -r
complete -c streamd -l symlinks -d 'Which symbolic links are followed' -r -f -a "none\t'None: what a link leads to is 404'
beneath\t'Those that lead to what lies below the root, absolute ones too'
anywhere\t'Those besides that lead into symlink_targets'"
complete -c streamd -l symlink-targets -d 'Directories into which links may lead besides the root, with symlinks = "anywhere"' -r
complete -c streamd -l precompressed -d 'Siblings of a file that answer for it where the client takes their coding, by suffix: zst, br, gz' -r
complete -c streamd -l etag -d 'What entity tags are made of' -r -f -a "node\t'Size, modification time, inode and change time: strong once it is 2 s old, and another on each host'
digest\t'The content, of which a digest is made in the background: strong and the same everywhere once that is there'
times\t'Size and modification time in seconds: always weak, and the same where both are'"
complete -c streamd -l cache-control -d 'Cache-Control of every file, where no header rule says otherwise' -r
complete -c streamd -l uploads -d 'Take uploads below the root' -r -f -a "true\t''
false\t''"
complete -c streamd -l create-dirs -d 'Make the directories that an upload\'s name goes through' -r -f -a "true\t''
false\t''"
complete -c streamd -l durability -d 'What an upload is that was acknowledged: on disk, or in memory' -r -f -a "fsync\t'On disk, with its name'
none\t'In the page cache: a host that loses power within the next half minute loses it too'"
complete -c streamd -l partial-ttl -d 'How long an upload that isn\'t gone on with is kept (90s, 24h, 7days)' -r
complete -c streamd -l upload-bytes-max -d 'Longest upload that is taken' -r
complete -c streamd -l direct-bytes-min -d 'Rest of a body from which on it is written past the page cache (O_DIRECT), with durability fsync; 0 for never' -r
complete -c streamd -l min-free-bytes -d 'Bytes of the file system that uploads and stored frames leave free' -r
complete -c streamd -l min-free-inodes -d 'Inodes of the file system that uploads and stored frames leave free, where it has a number of them' -r
complete -c streamd -l check -d 'Check configuration and host'
complete -c streamd -l strict -d 'With --check: refuse what is only warned of'
complete -c streamd -l print-config -d 'Print the settings and their origins'
complete -c streamd -s h -l help -d 'Print help (see more with \'--help\')'
complete -c streamd -s V -l version -d 'Print version'
