# IP addresses and ports, read digit by digit. A regular expression won't do: its "$" also matches before a final
# line feed. Works with jq 1.6 and newer; scripts/test-addresses.py holds it to Python's ipaddress.

# The number that a string spells: digits of a base from first to last, at most so many of them.
def number_of($base; $digits_max):
    explode
    | if length < 1 or length > $digits_max then null
      else map(if . >= 48 and . <= 57 then . - 48
               elif . >= 65 and . <= 70 then . - 55
               elif . >= 97 and . <= 102 then . - 87
               else 99 end)
        | if any(.[]; . >= $base) then null else reduce .[] as $digit (0; . * $base + $digit) end
      end;

# An octet has no leading zero, which some take for octal.
def octet:
    if length > 1 and startswith("0") then null
    else number_of(10; 3) | if . != null and . <= 255 then . else null end
    end;

def ipv4_octets:
    if type != "string" then null
    else split(".") | if length != 4 then null else map(octet) | if any(.[]; . == null) then null else . end end
    end;

# The groups of one side of "::"; its last may be an IPv4 address where the side is the last. [null] where it is none.
def ipv6_side($is_last):
    if . == "" then []
    else split(":")
        | (if $is_last and (.[-1] | contains(".")) then .[-1] | ipv4_octets else null end) as $octets
        | if $octets != null then
              (.[:-1] | map(number_of(16; 4))) + [$octets[0] * 256 + $octets[1], $octets[2] * 256 + $octets[3]]
          else map(number_of(16; 4)) end
    end;

# No zone ("%eth0"): it means something on one host only.
def ipv6_groups:
    if type != "string" or . == "" or length > 45 then null
    else split("::")
        | if length == 1 then .[0] | ipv6_side(true) | if length == 8 then . else null end
          elif length == 2 then
              (.[0] | ipv6_side(false)) as $high | (.[1] | ipv6_side(true)) as $low
              | (8 - ($high | length) - ($low | length)) as $zeros
              | if $zeros < 1 then null else $high + [range($zeros) | 0] + $low end
          else null end
        | if . == null or any(.[]; . == null) then null else . end
    end;

def is_address: ipv4_octets != null or ipv6_groups != null;

# An address at which one peer can be reached: neither unspecified nor multicast nor broadcast, and not one of those
# mapped into IPv6.
def is_peer_address:
    ipv6_groups as $groups
    | (if $groups != null and $groups[:6] == [0, 0, 0, 0, 0, 65535] then
           $groups[6:] | map((. / 256 | floor), . % 256)
       else ipv4_octets end) as $octets
    | if $octets != null then $octets != [0, 0, 0, 0] and ($octets[0] < 224 or $octets[0] > 239)
          and $octets != [255, 255, 255, 255]
      elif $groups != null then any($groups[]; . != 0) and $groups[0] < 65280
      else false end;

# Where it stands among others: by family, then by number.
def address_order:
    ipv4_octets as $octets | if $octets != null then [4, $octets] else [6, ipv6_groups] end;

def is_port: type == "number" and . >= 1 and . <= 65535 and . == floor;

# ADDRESS:PORT as NGINX and URLs have it. floor: jq 1.7 and newer would write 80.0 as it was given.
def host_port($port): (if contains(":") then "[\(.)]" else . end) + ":\($port | floor)";
