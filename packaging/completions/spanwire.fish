# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_spanwire_global_optspecs
    string join \n c/config= p/port= e/exe= pid= endpoint= protocol= print= log-level= set= record= h/help V/version
end

function __fish_spanwire_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_spanwire_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_spanwire_using_subcommand
    set -l cmd (__fish_spanwire_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c spanwire -n "__fish_spanwire_needs_command" -s c -l config -d 'YAML file; see docs/CONFIG.md' -r -F
complete -c spanwire -n "__fish_spanwire_needs_command" -s p -l port -d 'Trace processes that listen on these TCP ports, such as 80,8000-8999' -r
complete -c spanwire -n "__fish_spanwire_needs_command" -s e -l exe -d 'Trace executables that match this glob, such as \'*/nginx\'; may be repeated' -r
complete -c spanwire -n "__fish_spanwire_needs_command" -l pid -d 'Trace these processes' -r
complete -c spanwire -n "__fish_spanwire_needs_command" -l endpoint -d 'OTLP endpoint, such as http://localhost:4317' -r
complete -c spanwire -n "__fish_spanwire_needs_command" -l protocol -d 'How OTLP travels; by default grpc when the port ends in 4317, else http/protobuf' -r -f -a "grpc\t''
http/protobuf\t''"
complete -c spanwire -n "__fish_spanwire_needs_command" -l print -d 'Print spans on standard output' -r -f -a "tree\t''
text\t''
json\t''
json_indent\t''
counter\t''
disabled\t''"
complete -c spanwire -n "__fish_spanwire_needs_command" -l log-level -d 'Of the log on standard error' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c spanwire -n "__fish_spanwire_needs_command" -l set -d 'Any key of the configuration, such as ebpf.max_transaction_time=30s; may be repeated' -r
complete -c spanwire -n "__fish_spanwire_needs_command" -l record -d 'Write the raw records of the kernel side to a file, for `spanwire replay`' -r -F
complete -c spanwire -n "__fish_spanwire_needs_command" -s h -l help -d 'Print help'
complete -c spanwire -n "__fish_spanwire_needs_command" -s V -l version -d 'Print version'
complete -c spanwire -n "__fish_spanwire_needs_command" -a "run" -d 'Trace the selected processes until a signal, or a command until it ends'
complete -c spanwire -n "__fish_spanwire_needs_command" -a "check" -d 'Tell what this host allows, feature by feature, and what to do about the rest'
complete -c spanwire -n "__fish_spanwire_needs_command" -a "config" -d 'Print the effective configuration with the origin of each value'
complete -c spanwire -n "__fish_spanwire_needs_command" -a "replay" -d 'Print the spans of a file that `run --record` wrote'
complete -c spanwire -n "__fish_spanwire_needs_command" -a "version" -d 'Print the version'
complete -c spanwire -n "__fish_spanwire_needs_command" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -s c -l config -d 'YAML file; see docs/CONFIG.md' -r -F
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -s p -l port -d 'Trace processes that listen on these TCP ports, such as 80,8000-8999' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -s e -l exe -d 'Trace executables that match this glob, such as \'*/nginx\'; may be repeated' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -l pid -d 'Trace these processes' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -l endpoint -d 'OTLP endpoint, such as http://localhost:4317' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -l protocol -d 'How OTLP travels; by default grpc when the port ends in 4317, else http/protobuf' -r -f -a "grpc\t''
http/protobuf\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -l print -d 'Print spans on standard output' -r -f -a "tree\t''
text\t''
json\t''
json_indent\t''
counter\t''
disabled\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -l log-level -d 'Of the log on standard error' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -l set -d 'Any key of the configuration, such as ebpf.max_transaction_time=30s; may be repeated' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -l record -d 'Write the raw records of the kernel side to a file, for `spanwire replay`' -r -F
complete -c spanwire -n "__fish_spanwire_using_subcommand run" -s h -l help -d 'Print help'
complete -c spanwire -n "__fish_spanwire_using_subcommand check" -l json -d 'For machines'
complete -c spanwire -n "__fish_spanwire_using_subcommand check" -l live -d 'What the instances that run here have done, and refused to do; needs root'
complete -c spanwire -n "__fish_spanwire_using_subcommand check" -s h -l help -d 'Print help'
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -s c -l config -d 'YAML file; see docs/CONFIG.md' -r -F
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -s p -l port -d 'Trace processes that listen on these TCP ports, such as 80,8000-8999' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -s e -l exe -d 'Trace executables that match this glob, such as \'*/nginx\'; may be repeated' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -l pid -d 'Trace these processes' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -l endpoint -d 'OTLP endpoint, such as http://localhost:4317' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -l protocol -d 'How OTLP travels; by default grpc when the port ends in 4317, else http/protobuf' -r -f -a "grpc\t''
http/protobuf\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -l print -d 'Print spans on standard output' -r -f -a "tree\t''
text\t''
json\t''
json_indent\t''
counter\t''
disabled\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -l log-level -d 'Of the log on standard error' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -l set -d 'Any key of the configuration, such as ebpf.max_transaction_time=30s; may be repeated' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -l record -d 'Write the raw records of the kernel side to a file, for `spanwire replay`' -r -F
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -l json -d 'For machines'
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -s h -l help -d 'Print help'
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -a "check" -d 'Tell whether `run` would start with it: exit status 0, or 2 and the reason'
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and not __fish_seen_subcommand_from check help" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -s c -l config -d 'YAML file; see docs/CONFIG.md' -r -F
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -s p -l port -d 'Trace processes that listen on these TCP ports, such as 80,8000-8999' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -s e -l exe -d 'Trace executables that match this glob, such as \'*/nginx\'; may be repeated' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -l pid -d 'Trace these processes' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -l endpoint -d 'OTLP endpoint, such as http://localhost:4317' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -l protocol -d 'How OTLP travels; by default grpc when the port ends in 4317, else http/protobuf' -r -f -a "grpc\t''
http/protobuf\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -l print -d 'Print spans on standard output' -r -f -a "tree\t''
text\t''
json\t''
json_indent\t''
counter\t''
disabled\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -l log-level -d 'Of the log on standard error' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -l set -d 'Any key of the configuration, such as ebpf.max_transaction_time=30s; may be repeated' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -l record -d 'Write the raw records of the kernel side to a file, for `spanwire replay`' -r -F
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "check" -d 'Tell whether `run` would start with it: exit status 0, or 2 and the reason'
complete -c spanwire -n "__fish_spanwire_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c spanwire -n "__fish_spanwire_using_subcommand replay" -l print -d 'As `run --print`' -r
complete -c spanwire -n "__fish_spanwire_using_subcommand replay" -s h -l help -d 'Print help'
complete -c spanwire -n "__fish_spanwire_using_subcommand version" -s h -l help -d 'Print help'
complete -c spanwire -n "__fish_spanwire_using_subcommand help; and not __fish_seen_subcommand_from run check config replay version help" -f -a "run" -d 'Trace the selected processes until a signal, or a command until it ends'
complete -c spanwire -n "__fish_spanwire_using_subcommand help; and not __fish_seen_subcommand_from run check config replay version help" -f -a "check" -d 'Tell what this host allows, feature by feature, and what to do about the rest'
complete -c spanwire -n "__fish_spanwire_using_subcommand help; and not __fish_seen_subcommand_from run check config replay version help" -f -a "config" -d 'Print the effective configuration with the origin of each value'
complete -c spanwire -n "__fish_spanwire_using_subcommand help; and not __fish_seen_subcommand_from run check config replay version help" -f -a "replay" -d 'Print the spans of a file that `run --record` wrote'
complete -c spanwire -n "__fish_spanwire_using_subcommand help; and not __fish_seen_subcommand_from run check config replay version help" -f -a "version" -d 'Print the version'
complete -c spanwire -n "__fish_spanwire_using_subcommand help; and not __fish_seen_subcommand_from run check config replay version help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c spanwire -n "__fish_spanwire_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "check" -d 'Tell whether `run` would start with it: exit status 0, or 2 and the reason'
