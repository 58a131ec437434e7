"""`kl2tp mtu`: what the layers around a packet cost, and the MTU and MSS that follow. Asks no kernel."""

import argparse
import sys
from collections.abc import Iterator

from kl2tp.cli import exits
from kl2tp.cli.options import common, json_output
from kl2tp.model.algorithms import esp_ciphers
from kl2tp.model.ciphers import CIPHERS, Cipher, find
from kl2tp.model.ike import ESP_PROPOSALS, IkeSpec
from kl2tp.model.overhead import Layer, Overhead, Stack, overhead, with_ike
from kl2tp.model.spec import Encap, L2Spec, Mode

SIZES = (64, 128, 256, 512, 1024)
"""Inner packets, bytes, for which the efficiency is shown, besides the largest."""

_DESCRIPTION = """\
Show, layer by layer, what L2TP and IPsec add to a packet, and from that the MTU of the
interface and the TCP MSS. Figures are exact: the packets that the kernel sends have these lengths."""
_EXAMPLES = """\
examples:
  kl2tp mtu --cipher aes256gcm16                   L2TPv3 over IP in ESP
  kl2tp mtu --encapsulation udp --cookie 8 --cipher aes256gcm16 --nat-traversal --outer ipv6
  kl2tp mtu --l2tp 2 --cipher aes128-sha256        L2TP/IPsec as telephones speak it
  kl2tp mtu --l2tp 2 --ike                         what kl2tp reckons with before IKE has chosen
  kl2tp mtu --path-mtu 1492 --payload 576          one packet of 576 bytes on a PPPoE line"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "mtu",
        help="show overhead, MTU and MSS, layer by layer",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--l2tp", type=int, choices=(2, 3), default=3, help="version: 2 carries PPP, 3 Ethernet (default 3)")
    add("--encapsulation", choices=("ip", "udp"), help="default ip; L2TPv2 always has udp")
    add(
        "--outer",
        choices=("ipv4", "ipv6"),
        default="ipv4",
        help="IP version of the outer packet (default ipv4)",
    )
    add("--cookie", type=int, choices=(0, 4, 8), default=0, help="bytes of the cookie sent (default 0)")
    add(
        "--l2-sublayer",
        choices=("none", "default"),
        default="default",
        help="L2-specific sublayer (default default)",
    )
    add("--sequencing", action="store_true", help="send sequence numbers")
    add("--length-field", action="store_true", help="the peer's L2TPv2 packets have a length field")
    add("--cipher", default="none", metavar="NAME", help=f"one of {', '.join(CIPHERS)}, none (default none)")
    add("--mode", choices=("transport", "tunnel"), default="transport", help="IPsec mode (default transport)")
    add(
        "--ike",
        nargs="?",
        const=",".join(ESP_PROPOSALS),
        metavar="PROPOSALS",
        help=f"IKE chooses: the ESP proposal that costs most, in UDP (default {','.join(ESP_PROPOSALS)})",
    )
    add("--nat-traversal", action="store_true", help="ESP in UDP")
    add(
        "--path-mtu",
        type=_length,
        default=1500,
        metavar="BYTES",
        help="MTU of the path to the peer (default 1500)",
    )
    add(
        "--payload",
        type=_length,
        metavar="BYTES",
        help="show an inner IP packet of this length (default: the MTU)",
    )
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the figures."""
    try:
        found = overhead(_stack(args), args.path_mtu)
    except ValueError as error:
        raise exits.CommandError(str(error), status=exits.USAGE) from None
    payload = found.mtu if args.payload is None else args.payload
    if args.json:
        import json  # only here: the command must start fast

        print(json.dumps(_data(found, payload), indent=2))
    else:
        print("\n".join(_text(found, payload, _frame(sys.stdout.encoding))))
    return exits.OK


def _length(text: str) -> int:
    """An argument: the length of an IP packet."""
    if not text.isdecimal() or not 20 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes from 20 to 65535")
    return int(text)


def _cipher(name: str) -> Cipher | None:
    return None if name == "none" else find(name)


def _stack(args: argparse.Namespace) -> Stack:
    """The layers as the arguments have them. Raises ValueError."""
    encapsulation = args.encapsulation or ("udp" if args.l2tp == 2 else "ip")
    ike = _ike(args)
    stack = Stack(
        version=args.l2tp,
        encap=Encap[encapsulation.upper()],
        ipv6=args.outer == "ipv6",
        cookie=args.cookie,
        l2spec=L2Spec[args.l2_sublayer.upper()],
        sequencing=args.sequencing,
        length_field=args.length_field,
        cipher=_cipher(args.cipher),
        mode=Mode.TRANSPORT if ike else Mode[args.mode.upper()],
        nat_traversal=args.nat_traversal and not ike,
    )
    return with_ike(stack, ike, args.path_mtu)


def _ike(args: argparse.Namespace) -> IkeSpec | None:
    """What IKE chooses from, if it does. Raises ValueError."""
    if args.ike is None:
        return None
    if args.cipher != "none":
        raise ValueError("--ike says that IKE chooses the cipher: leave --cipher out")
    proposals = tuple(args.ike.split(","))
    try:
        if not all(esp_ciphers((proposal,)) for proposal in proposals):
            raise ValueError(f"{args.ike}: a proposal without encryption and integrity")
    except KeyError as error:
        raise ValueError(f"{args.ike}: there is no algorithm {error}") from None
    return IkeSpec(esp_proposals=proposals, mode=Mode[args.mode.upper()])


def _sizes(found: Overhead) -> list[int]:
    """Inner packets to compare, the largest last."""
    return [size for size in SIZES if size < found.mtu] + [found.mtu]


def _percent(stack: Stack, size: int) -> float:
    """Share of the outer packet that is inner packet."""
    return 100 * size / stack.outer_length(size)


def _data(found: Overhead, payload: int) -> dict[str, object]:
    """Everything, for JSON. Lengths in bytes."""
    stack = found.stack
    length = stack.outer_length(payload)
    return {
        "l2tp": stack.version,
        "encapsulation": stack.encap.name.lower(),
        "outer": "ipv6" if stack.ipv6 else "ipv4",
        "cookie": stack.cookie,
        "l2_sublayer": stack.l2spec.name.lower() if stack.version == 3 else None,
        "sequencing": stack.sequencing,
        "length_field": stack.length_field,
        "cipher": stack.cipher.name if stack.cipher else None,
        "mode": stack.mode.name.lower() if stack.cipher else None,
        "nat_traversal": stack.nat_traversal,
        "path_mtu": found.path_mtu,
        "mtu": found.mtu,
        "mss": {"ipv4": found.mss4, "ipv6": found.mss6 or None},
        "payload": payload,
        "layers": [{"name": x.name, "bytes": x.bytes, "note": x.note} for x in stack.layers(payload)],
        "outer_length": length,
        "overhead": length - payload,
        "fits": length <= found.path_mtu,
        "efficiency": [
            {
                "payload": size,
                "outer_length": stack.outer_length(size),
                "percent": round(_percent(stack, size), 2),
            }
            for size in _sizes(found)
        ],
    }


def _text(found: Overhead, payload: int, frame: str) -> Iterator[str]:
    """Everything, for people."""
    stack = found.stack
    length = stack.outer_length(payload)
    yield _title(stack)
    yield ""
    yield from _picture(stack.layers(payload), length, payload, frame)
    if length > found.path_mtu:
        yield f"  {length - found.path_mtu} more than the path MTU of {found.path_mtu}: leaves in fragments"
    yield ""
    yield f"  MTU  {found.mtu:5}  on a path of {found.path_mtu}"
    yield f"  MSS  {found.mss4:5}  IPv4"
    yield f"       {found.mss6:5}  IPv6" if found.mss6 else "           -  IPv6: needs an MTU of 1280"
    yield ""
    yield "  payload  outer packet  efficiency"
    for size in _sizes(found):
        yield f"  {size:7}  {stack.outer_length(size):12}  {_percent(stack, size):8.1f} %"


def _title(stack: Stack) -> str:
    words = [f"L2TPv{stack.version} over {stack.encap.name} over IPv{6 if stack.ipv6 else 4}"]
    if stack.cipher:
        words.append(f"{stack.cipher.name} in {stack.mode.name.lower()} mode")
    if stack.nat_traversal:
        words.append("NAT traversal")
    return ", ".join(words)


def _frame(encoding: str | None) -> str:
    """Characters to draw with: as good as the terminal can."""
    frame = "─│┌┬┐├┼┤└┴┘"
    try:
        frame.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "-|+++++++++"
    return frame


def _picture(layers: tuple[Layer, ...], length: int, payload: int, frame: str) -> Iterator[str]:
    """The packet from its first byte to its last, a row per layer."""
    across, down = frame[0], frame[1]
    width = max(len(layer.name) for layer in layers)

    def rule(corners: str, note: str = "") -> str:
        line = across * (width + 2) + corners[1] + across * 7
        return f"  {corners[0]}{line}{corners[2]} {note}".rstrip()

    def row(name: str, size: int, note: str) -> str:
        return f"  {down} {name:{width}} {down} {size:5} {down} {note}".rstrip()

    yield rule(frame[2:5])
    for layer in layers:
        if layer.name == "ESP ICV":
            yield rule(frame[5:8], "to here")
        yield row(layer.name, layer.bytes, layer.note)
        if layer.name == "ESP IV":
            yield rule(frame[5:8], "encrypted from here")
    yield rule(frame[5:8])
    yield row("total", length, f"{length - payload} of overhead")
    yield rule(frame[8:11])
