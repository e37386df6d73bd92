"""The data sets of the papers: what they hold, where their authors publish them, and the known checksums.

The sizes and checksums of the CycleGAN sets are those that TensorFlow Datasets records (url_checksums/cycle_gan.txt).
Of the others only rough sizes are known.
"""

import difflib
from typing import NamedTuple

from twofold.errors import UsageError

EFROS = "efrosgans.eecs.berkeley.edu"
PEOPLE = "https://people.eecs.berkeley.edu"


class Published(NamedTuple):
    """A data set that its authors publish as one archive."""

    a: str
    """The images of A: of trainA and testA, or the left half of a pair."""
    b: str
    paired: bool
    """Side-by-side pairs in train, val, test; else trainA, trainB, testA, testB."""
    about: int
    """Bytes of the archive; roughly, where the checksum is not known."""
    mirrors: tuple[str, ...]
    """Addresses, tried in this order."""
    sha256: str | None = None

    @property
    def archive(self) -> str:
        return self.mirrors[0].rsplit("/", 1)[-1]


SHA256 = {
    "horse2zebra": "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1",
    "apple2orange": "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8",
    "summer2winter_yosemite": "167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9",
    "monet2photo": "88f91b00fc228f97c9411fbf1880ec1d119c98f1722e4cfcfaa2fb35fac05b04",
    "cezanne2photo": "3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff",
    "ukiyoe2photo": "02a2a2fb5ecf425ca1bf86aca7304377da64a2a1d3b86df54eb65e4068bf3b08",
    "vangogh2photo": "362c3473e70be0944bda08d49d660eafdc2854df55d697835b8186d1d79caaff",
    "iphone2dslr_flower": "8fcb5e374d631b107e1d961b8c4cd0a186aa2a4ff3e279923f4c426128de7113",
    "maps": "639534f69dbf9f36bef8d6292a7698006361221f83f0285d7c9ca78afe6e8a9e",
    "facades": "9a31ebf3a31b9b5cd195dd5bf62e9308e00cb94604d1019e3889ac84248695c0",
}


def cyclegan(name: str, a: str, b: str, about: int) -> Published:
    file = f"datasets/{name}.zip"
    now, before = f"{EFROS}/cyclegan/{file}", f"{PEOPLE}/~taesung_park/CycleGAN/{file}"
    return Published(a, b, False, about, (f"https://{now}", f"http://{now}", before), SHA256.get(name))


def pix2pix(name: str, a: str, b: str, about: int) -> Published:
    file = f"datasets/{name}.tar.gz"
    now, before = f"{EFROS}/pix2pix/{file}", f"{PEOPLE}/~tinghuiz/projects/pix2pix/{file}"
    return Published(a, b, True, about, (f"https://{now}", f"http://{now}", before))


PUBLISHED: dict[str, Published] = {
    "horse2zebra": cyclegan("horse2zebra", "horses", "zebras", 116867962),
    "apple2orange": cyclegan("apple2orange", "apples", "oranges", 78456409),
    "summer2winter": cyclegan("summer2winter_yosemite", "Yosemite in summer", "in winter", 132640856),
    "monet2photo": cyclegan("monet2photo", "Monet's paintings", "landscape photos", 305231073),
    "cezanne2photo": cyclegan("cezanne2photo", "Cézanne's paintings", "landscape photos", 279885071),
    "ukiyoe2photo": cyclegan("ukiyoe2photo", "Ukiyo-e prints", "landscape photos", 292946532),
    "vangogh2photo": cyclegan("vangogh2photo", "van Gogh's paintings", "landscape photos", 306590349),
    "iphone2dslr": cyclegan("iphone2dslr_flower", "flowers by telephone", "by DSLR camera", 339964458),
    "maps": cyclegan("maps", "aerial photos", "maps", 1476754427),
    "facades": cyclegan("facades", "photos of facades", "their label maps", 35135868),
    "grumpifycat": cyclegan("grumpifycat", "Russian Blue cats", "Grumpy Cat", 20_000_000),
    "pix2pix-facades": pix2pix("facades", "photos of facades", "their label maps", 30_000_000),
    "pix2pix-maps": pix2pix("maps", "aerial photos", "maps", 250_000_000),
    "edges2shoes": pix2pix("edges2shoes", "edges", "shoes", 2_200_000_000),
    "edges2handbags": pix2pix("edges2handbags", "edges", "handbags", 8_600_000_000),
    "night2day": pix2pix("night2day", "places at night", "by day", 2_000_000_000),
}
"""Name to data set. Folders of the same name on the two sites hold different files: pix2pix's are pairs."""

WITHHELD = {
    "cityscapes": "nobody may pass Cityscapes on: register at https://www.cityscapes-dataset.com and get"
    " gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip there",
    "cat2dog": "its images are AFHQ's, which the authors of StarGAN v2 publish: https://github.com/clovaai/stargan-v2",
}


def find(name: str) -> Published:
    """The data set of this name.

    Raises:
        UsageError: there is none; the message has the nearest name, or where else to get it.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    if name in WITHHELD:
        raise UsageError(f"{name} cannot be downloaded from here: {WITHHELD[name]}")
    near = difflib.get_close_matches(name, PUBLISHED, 1)
    hint = f"did you mean {near[0]}?" if near else "`twofold data download` lists them"
    raise UsageError(f"there is no data set {name}; {hint}")
