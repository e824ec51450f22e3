"""PNG with a fingerprint inside, and for images that a model made, the standard's word for how they came to be.

IPTC's Digital Source Type (Photo Metadata Standard; vocabulary ``digitalsourcetype``) stands in an XMP packet in the
iTXt chunk ``XML:com.adobe.xmp``, where Adobe's XMP specification (part 3) has it in PNG. Rendered images carry none: no
trained model takes part in them, and the term for them (``algorithmicMedia``) is told of their data set as a whole.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
from PIL import Image, PngImagePlugin

from partsynth.store.files import write_bytes_atomic
from partsynth.store.hashing import sha256_bytes

FINGERPRINT_KEY, XMP_KEY = "partsynth", "XML:com.adobe.xmp"
TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SourceType = Literal["compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia", "compositeCapture"]
"""Edited by a generative model; made by one from nothing but words or noise; put together from photographs alone."""
# no version of this package and no time: the same image is the same bytes in every release
PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmp:CreatorTool="partsynth"
    Iptc4xmpExt:DigitalSourceType="{terms}{source_type}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def xmp_packet(source_type: SourceType) -> str:
    """The XMP packet of an image of this kind.

    Raises
    ------
    ValueError
        for a term that means no image of an augmentation set.
    """
    if source_type not in get_args(SourceType):
        raise ValueError(f"{source_type!r} is no digital source type of a generated image")
    return PACKET.format(terms=TERMS, source_type=source_type)


def png_bytes(image: Image.Image | np.ndarray, mark: str | None = None, source_type: SourceType | None = None) -> bytes:
    """PNG of a PIL image or a uint8 array (H, W) or (H, W, 3), carrying ``mark`` as a text chunk.

    Parameters
    ----------
    source_type : of an image that was made from others or by a generative model, for readers of XMP; before the pixels.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    info = PngImagePlugin.PngInfo()
    if mark is not None:
        info.add_text(FINGERPRINT_KEY, mark)
    if source_type is not None:
        info.add_itxt(XMP_KEY, xmp_packet(source_type))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info, compress_level=6)
    return buffer.getvalue()


def write_png(
    path: Path, image: Image.Image | np.ndarray, mark: str | None = None, source_type: SourceType | None = None
) -> str:
    """Write a PNG atomically with its fingerprint inside; returns the file's sha256."""
    data = png_bytes(image, mark, source_type)
    write_bytes_atomic(path, data)
    return sha256_bytes(data)


def png_fingerprint(path: Path | IO[bytes]) -> str | None:
    """The fingerprint inside a whole, readable PNG; None where the file is missing, torn or unmarked."""
    return _info(path).get(FINGERPRINT_KEY)


def is_current(path: Path, mark: str, source_type: SourceType) -> bool:
    """Whether it is a whole PNG with this fingerprint and this XMP packet, which earlier versions did not write."""
    info = _info(path)
    return (info.get(FINGERPRINT_KEY), info.get(XMP_KEY)) == (mark, xmp_packet(source_type))


def _info(path: Path | IO[bytes]) -> dict[str, str]:
    try:
        with Image.open(path) as image:
            image.load()
            return {key: str(image.info[key]) for key in (FINGERPRINT_KEY, XMP_KEY) if key in image.info}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return {}
