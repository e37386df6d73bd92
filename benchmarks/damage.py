"""Image files of every kind, and ways to damage them."""

import io
import random
from collections.abc import Iterator

import numpy as np
import tifffile
from PIL import Image


def whole_files(side: int = 24) -> dict[str, bytes]:
    """A small file of each kind that is read, by a name."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    deep = rgb.astype(np.uint16) * 257
    picture, files = Image.fromarray(rgb), {}

    def keep(name: str, save, *args, **options) -> None:
        file = io.BytesIO()
        save(file, *args, **options)
        files[name] = file.getvalue()

    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM"):
        keep(kind, picture.save, kind)
    keep("progressive", picture.save, "JPEG", progressive=True)
    keep("palette", picture.convert("P").save, "PNG")
    keep("animated", picture.save, "GIF", save_all=True, append_images=[picture.rotate(90)])
    keep("lossless", picture.save, "WEBP", lossless=True)
    keep("exif", picture.save, "JPEG", exif=bytes(_exif()), icc_profile=b"no profile")
    keep("npy", np.save, rgb)
    keep("npz", np.savez_compressed, rgb)
    for name, pixels in {"deep": deep, "float": (rgb / 255).astype(np.float32)}.items():
        for compression in ("deflate", "lzw", None):
            keep(
                f"{name}-{compression}", tifffile.imwrite, pixels, photometric="rgb", compression=compression
            )
    keep(
        "tiled", tifffile.imwrite, deep, photometric="rgb", tile=(16, 16), compression="deflate", predictor=2
    )
    keep("planes", tifffile.imwrite, deep.transpose(2, 0, 1), planarconfig="separate", photometric="rgb")
    return files


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "description"
    return exif.tobytes()


def damaged(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many damaged files, each with the name of its kind."""
    dice, files = random.Random(seed), [*whole_files().items()]
    for _ in range(count):
        name, content = dice.choice(files)
        yield name, dice.choice(DAMAGES)(bytearray(content), dice, files)


def _flip(content: bytearray, dice: random.Random, _) -> bytes:
    for _ in range(dice.choice((1, 2, 8, 40))):
        content[dice.randrange(len(content))] = dice.randrange(256)
    return bytes(content)


def _flip_header(content: bytearray, dice: random.Random, _) -> bytes:
    for _ in range(dice.choice((1, 2, 4))):
        content[dice.randrange(min(64, len(content)))] = dice.choice(
            (0, 1, 127, 128, 255, dice.randrange(256))
        )
    return bytes(content)


def _cut(content: bytearray, dice: random.Random, _) -> bytes:
    return bytes(content[: dice.randrange(len(content))])


def _remove(content: bytearray, dice: random.Random, _) -> bytes:
    start = dice.randrange(len(content))
    del content[start : start + dice.choice((1, 4, 100))]
    return bytes(content)


def _insert(content: bytearray, dice: random.Random, _) -> bytes:
    start = dice.randrange(len(content))
    content[start:start] = dice.randbytes(dice.choice((1, 4, 100)))
    return bytes(content)


def _number(content: bytearray, dice: random.Random, _) -> bytes:
    """A large number where a size or an offset may stand."""
    start = dice.randrange(min(400, len(content)))
    value = dice.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000, len(content)))
    content[start : start + 4] = value.to_bytes(4, dice.choice(("little", "big")))
    return bytes(content)


def _splice(content: bytearray, dice: random.Random, files) -> bytes:
    other = dice.choice(files)[1]
    return bytes(content[: dice.randrange(len(content))] + other[dice.randrange(len(other)) :])


def _noise(content: bytearray, dice: random.Random, _) -> bytes:
    return bytes(content[: dice.choice((0, 2, 4, 8, 16))]) + dice.randbytes(dice.randrange(300))


DAMAGES = [_flip, _flip_header, _cut, _remove, _insert, _number, _splice, _noise]
