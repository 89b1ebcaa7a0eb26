# Judges what Consul answers for a service, each entry alone; run with -n. Prints lines of fields, tabs between them:
#
#   take SERVER ADDRESS PORT PROOF    an entry that NGINX may have, once its proof is found right; in order
#   refuse ID REASON                  one that it may not have, with control characters escaped
#
# $service: its name. $tag: what an entry of this stack carries.
include "addresses";

# Far more than a list has; what comes after them isn't looked at.
def entries_max: 4096;
def shown_characters_max: 100;

def hex: "0123456789abcdef" as $digits | [while(. > 0; . / 16 | floor) | . % 16] | reverse | map($digits[.:. + 1]) | join("");

# As it may go to a log and a terminal: printable ASCII, the rest as \u{1b}.
def shown:
    (if type == "string" then . else tojson end) | .[:shown_characters_max + 1] | explode
    | (if length > shown_characters_max then .[:shown_characters_max] + [46, 46, 46] else . end)
    | map(if . >= 32 and . <= 126 and . != 92 then [.] | implode else "\\u{\(if . == 0 then "0" else hex end)}" end)
    | join("");

def proof:
    if type == "object" then .["streamd-proof"] else null end
    | if type == "string" and length == 64 and (explode | all(.[]; (. >= 48 and . <= 57) or (. >= 97 and . <= 102)))
      then . else "-" end;

# What is wrong with a service, or null.
def fault($service; $tag):
    . as {ID: $id, Service: $name, Tags: $tags, Address: $address, Port: $port}
    | if $name != $service then "it is no \($service)"
      elif ($tags | type) != "array" or all($tags[]; . != $tag) then "it hasn't the tag \($tag | shown)"
      elif $address | is_peer_address | not then "\"\($address | shown)\" is no IPv4 or IPv6 address of a peer"
      elif $port | is_port | not then "\($port | shown) is no port from 1 to 65535"
      elif $id != "\($service)-\($address)-\($port | floor)" then
          "its ID isn't \("\($service)-\($address)-\($port | floor)" | shown)"
      else null end;

def judged($service; $tag):
    (if type == "object" then .Service else null end) as $entry
    | if ($entry | type) != "object" then {id: shown, fault: "it is no entry of a service"}
      else ($entry | fault($service; $tag)) as $fault
          | if $fault != null then {id: ($entry.ID | shown), fault: $fault}
            else {server: ($entry.Port as $port | $entry.Address | host_port($port)), address: $entry.Address,
                  port: ($entry.Port | floor), proof: ($entry.Meta | proof)} end
      end;

[limit(2; inputs)]
| if length != 1 or (.[0] | type) != "array" then error("not a list of entries") else .[0] end
| length as $count
| (.[:entries_max] | map(judged($service; $tag)))
| (map(select(.fault == null)) | unique | sort_by([(.address | address_order), .port])[]
   | ["take", .server, .address, "\(.port)", .proof] | join("\t")),
  (map(select(.fault != null)) | unique[] | ["refuse", .id, .fault] | join("\t")),
  (if $count > entries_max then "refuse\t\($count - entries_max) more\tno more than \(entries_max) entries are looked at"
   else empty end)
