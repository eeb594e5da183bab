#!/usr/bin/env python3
"""Makes a first corpus for each target, in fuzz/corpus/, of the files in tests/fixtures and configs."""

import struct
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests/fixtures"
LARGEST = 64 << 10  # libFuzzer is slow with more
EXTENSIONS = ["png", "jpg", "tif", "webp", "gif", "bmp"]


def put(target, name, content):
    folder = ROOT / "fuzz/corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def piece(kind, content):
    content = content[:65535]
    return struct.pack("<BH", kind, len(content)) + content


def segments(jpeg):
    """The marker and content of each segment before the pixels."""
    at = 2
    while jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        length = struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        yield jpeg[at + 1], jpeg[at + 4 : at + 2 + length]
        at += 2 + length


def pictures():
    files = [path for folder in ("jpeg", "pictures") for path in (FIXTURES / folder).iterdir()]
    files.append(FIXTURES / "lossy.webp")
    tiny = {
        # 3×2 pixels: GIF of two frames, BMP of 24 bits, gray TIFF.
        "tiny.gif": b"GIF89a\3\0\2\0\x91\0\0\0\0\0\xff\0\0\0\xff\0\0\0\xff\x21\xff\x0bNETSCAPE2.0\3\1\0\0\0"
        + 2 * (b"\x21\xf9\4\5\x0a\0\3\0\x2c\0\0\0\0\3\0\2\0\0\2\3\x44\x14\5\0")
        + b";",
        "tiny.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 78, 0, 54, 40, 3, 2, 1, 24, 0, 24, 2835, 2835, 0, 0) + bytes(range(24)),
        "palette.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 78, 0, 70, 40, 3, -2, 1, 4, 0, 8, 0, 0, 4, 0) + bytes(range(24)),
    }
    for path in files:
        content = path.read_bytes()
        if len(content) <= LARGEST:
            tiny[path.name] = content
    for name, content in tiny.items():
        put("pictures", name, content)
        extension = name.rsplit(".")[-1].replace("dng", "tif")
        put("files", name, bytes([EXTENSIONS.index(extension)]) + content)


def metadata():
    order = b"II*\0\x08\0\0\0"
    # Orientation, and an Exif IFD with a date, a maker note and an Interop pointer.
    exif = order + struct.pack("<H HHII HHII I", 2, 274, 3, 1, 6, 34665, 4, 1, 38, 0)
    exif += struct.pack("<H HHII HHII HHII I", 3, 36867, 2, 20, 80, 37500, 7, 8, 100, 40965, 4, 1, 108, 0)
    exif += b"2026:01:02 03:04:05\0" + b"maker\0\1\2" + struct.pack("<H HHI4s I", 1, 1, 2, 4, b"R98\0", 0)
    gps = order + struct.pack("<H HHII I", 1, 34853, 4, 1, 26, 0) + struct.pack("<H HHI4s I", 1, 1, 2, 2, b"N\0\0\0", 0)
    xmp = (
        b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" '
        b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF">'
        b"<tiff:ImageWidth>4</tiff:ImageWidth></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end=\"w\"?>"
    )
    extended = b"0123456789ABCDEF0123456789ABCDEF" + struct.pack(">II", 8, 0) + b"<x>1</x>"
    bim = b"8BIM\x04\x04\0\0" + struct.pack(">I", 10) + b"\x1c\x02\x78\0\5Title"
    bim += b"8BIM\x03\xed\0\0" + struct.pack(">I", 16) + struct.pack(">IHHIHH", 72 << 16, 1, 1, 72 << 16, 1, 1)
    put("metadata", "jpeg", b"\0" + piece(0, exif) + piece(1, xmp) + piece(2, extended) + piece(3, bim))
    put("metadata", "jpeg-gps", b"\0" + piece(9, b"\1\2\1\0\x48\0\x48\0\0") + piece(0, gps) + piece(8, b"words"))
    put("metadata", "png", b"\1" + piece(0, exif) + piece(1, xmp) + piece(3, b"Author\0me") + piece(15, struct.pack(">IIB", 2835, 2835, 1)))
    put("metadata", "png-colour", b"\1" + piece(11, struct.pack(">I", 100000)) + piece(12, struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)))
    put("metadata", "png-cicp", b"\1" + piece(14, b"\x09\x10\0\1") + piece(16, b"\x07\xea\1\2\3\4\5") + piece(18, b"\5"))
    put("metadata", "png-raw", b"\1" + piece(5, b"\nexif\n   %d\n" % (len(exif) + 6) + b"457869660000" + exif.hex().encode()))
    put("metadata", "png-frames", b"\1" + piece(20, struct.pack(">II", 1, 0)) + piece(21, struct.pack(">5IHHBB", 0, 4, 3, 0, 0, 1, 10, 0, 0)))
    put("metadata", "webp", b"\2" + piece(0, exif) + piece(1, xmp))
    for number, name in ((3, "tiff"), (4, "tiff-mm")):
        put("metadata", name, bytes([number]) + piece(2, xmp) + piece(3, b"\x1c\x02\x78\0\5Title") + piece(4, bim) + piece(9, b"2026:01:02 03:04:05\0"))
    for path in (FIXTURES / "pictures").glob("*.jpg"):
        kinds = {b"Exif\0\0": 0, b"http://ns.adobe.com/xap/1.0/\0": 1, b"Photoshop 3.0\0": 3, b"ICC_PROFILE\0\1\1": 4}
        for number, kind in ((0, lambda k: k), (1, lambda k: {0: 0, 1: 1, 4: 9}.get(k))):
            found = b""
            for _, content in segments(path.read_bytes()):
                for head, of_jpeg in kinds.items():
                    if content.startswith(head) and kind(of_jpeg) is not None:
                        found += piece(kind(of_jpeg), content[len(head) :])
            if found:
                put("metadata", f"{path.stem}-{number}", bytes([number]) + found)


def weights():
    for path in (FIXTURES / "weights").rglob("*.pth"):
        content = path.read_bytes()
        name = path.parent.name + "-" + path.name
        if len(content) <= LARGEST:
            put("pytorch", name, b"\0" + content)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                pickle = next(entry for entry in archive.namelist() if entry.endswith("data.pkl"))
                put("pytorch", name + "-pickle", b"\1" + archive.read(pickle))
    header = (
        b'{"__metadata__":{"format":"hi-diff","version":"1","config":"{}"},'
        b'"net_d.a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},'
        b'"net_g.b":{"dtype":"BF16","shape":[0,3],"data_offsets":[16,16]}}'
    )
    put("safetensors", "header", bytes([1 + 2 * 4]) + header)
    put("safetensors", "whole", b"\0" + struct.pack("<Q", len(header)) + header + bytes(16))


def texts():
    for path in (ROOT / "configs").rglob("*.toml"):
        put("configuration", path.stem, path.read_bytes() + b"\0training.ema=0.9\0model.prior=none\0data.sources=[]")
    put("lists", "realblur", b"a/gt/gt_1.png a/blur/blur_1.png\n\0a/gt/gt_1.png\0a/blur/blur_1.png")
    put("lists", "gopro", b"\0train/G1/blur/1.png\0train/G1/sharp/1.png\0test/G2/blur_gamma/1.png\0test/G2/sharp/1.png\0test/G2/blur/1.png")
    put("lists", "hide", b"\0test/test-close-ups/1.png\0test/test-long-shot/2.png\0GT/1.png\0GT/2.png\0train/3.png\0GT/3.png")
    put("lists", "sides", b"\0input/a/1.png\0target/a/1.png\0blur/1.bmp\0sharp/1.jpg\0" + b"note.txt")
    line = (
        b'{"dataset":0,"image":{"name":"a","psnr":30.5,"ssim":0.9,"width":3,"height":2,"seconds":0.5,'
        b'"blurred":{"psnr":null,"ssim":0.9}}}\n'
    )
    stamp = b'{"bytes":17,"modified":1}'
    entry = b'{"output":"a.png","input":' + stamp + b',"result":' + stamp + b',"recipe":{"seed":"0"}}\n'
    stream = (
        b'{"streams":[{"index":0,"codec_type":"video","codec_name":"h264","width":64,"height":48,"pix_fmt":"yuv420p",'
        b'"sample_aspect_ratio":"1:1","time_base":"1/90000","color_range":"tv","color_space":"bt709","side_data_list":'
        b'[{"rotation":-90}],"disposition":{"attached_pic":0},"tags":{"title":"a"}}]}'
    )
    put("journals", "evaluation", b"\0" + line)
    put("journals", "evaluation-whole", b"\1{}\n" + line)
    put("journals", "deblurring", b"\2" + entry + entry[:20])
    put("journals", "video", b'\3{"format":1,"bytes":7,"modified":0,"frames":3,"recipe":{}}')
    put("journals", "streams", b"\4" + stream)


pictures()
metadata()
weights()
texts()
