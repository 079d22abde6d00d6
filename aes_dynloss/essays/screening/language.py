"""Language of an essay: gibberish, other languages than the training essays', letters of other alphabets.

**Gibberish.** Neighbouring words distinguish an essay from random letters, random words and fluent nonsense. A pair of
words is known if two training essays hold it, and no fewer than chance alone would bring about:

    essays(a, b) >= max(2, N (1 - exp(-words(a) words(b) / words / N)))

for N essays, so that "the of" is not known merely because both words are common.

**Other languages.** Function words (articles, prepositions, pronouns, forms of to be and to have) make up about half of
any running text. The lists are from general knowledge of these languages; forms without accents are included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.screening.training_statistics import (
    FEWEST_ESSAYS,
    BitTable,
    Essays,
    Hashes,
    Values,
    WordHashes,
    count_essays,
    hash_words,
    normal_text,
    tail_threshold,
    thresholds_by_prompt,
    weighed_share,
)

# One writer's own pair of words is not learned.
FEWEST_WRITERS = 2
# However poorly the training essays are written, an essay half of whose pairs are known is let pass.
MILDEST_GIBBERISH = 0.5


@dataclass(frozen=True, eq=False)
class KnownPairs:
    """Pairs of neighbouring words that go together.

    Args:
        table: Them.
        average: Share of a training essay's pairs that other training essays know.
    """

    table: BitTable
    average: float

    def known(self, words: WordHashes) -> tuple[Values, Values]:
        """Each essay's share of known pairs, as it is judged and as it is, both (N,)."""
        pairs, of_essay = words.grams(2)
        return shares(self.table.holds(pairs), of_essay, len(words.counts), self.average)


def learn_pairs(essays: Essays) -> tuple[KnownPairs, Values]:
    """Pairs that training essays know, and the share of them that nearly all essays exceed.

    Args:
        essays: The training essays, N >= 1.

    Returns:
        Them, and thresholds for the prompts and for essays on others, (P + 1,). An essay's pairs are looked up in the
        other essays; for the last threshold in those on other prompts, and where all are on one, it is NaN.
    """
    pairs, of_essay = essays.words.grams(2)
    counted = count_essays(pairs, of_essay, essays)
    chance, words = _words_of_pairs(essays, counted.items, counted.place)
    together = counted.essays.sum(axis=1)
    count = len(essays.prompts)
    by_chance = _by_chance(chance.sum(axis=2), words.sum(), count)
    # What an essay itself adds to a pair is one essay.
    in_others = _known(together - 1, _by_chance(chance.sum(axis=2), words.sum(), count - 1))[counted.place]
    average = float(in_others.mean()) if len(in_others) else 0.0
    judged = shares(in_others, of_essay, count, average)[0]
    thresholds = thresholds_by_prompt(judged, essays, "low", MILDEST_GIBBERISH)
    elsewhere, sizes = np.zeros(len(pairs), dtype=bool), essays.sizes
    for prompt in range(essays.prompt_count):
        own = essays.prompts[of_essay] == prompt
        left = _by_chance(chance.sum(axis=2) - chance[:, :, prompt], words.sum() - words[prompt], count - sizes[prompt])
        elsewhere[own] = _known(together - counted.essays[:, prompt], left)[counted.place[own]]
    thresholds[-1] = np.nan
    if essays.prompt_count > 1 and count >= FEWEST_ESSAYS:
        thresholds[-1] = min(tail_threshold(shares(elsewhere, of_essay, count, average)[0], "low"), MILDEST_GIBBERISH)
    return KnownPairs(BitTable.of(counted.items[_known(together, by_chance)]), average), thresholds


def shares(chosen: NDArray[np.bool_], of_essay: NDArray[np.int64], count: int, average: float) -> tuple[Values, Values]:
    """Each essay's share of chosen items, as it is judged (`weighed_share`) and as it is.

    Args:
        chosen: Whether an item is chosen, (I,).
        of_essay: The essay of each item, (I,).
        count: Number of essays, N.
        average: Share of an average essay.
    """
    totals = np.bincount(of_essay, minlength=count)
    sums = np.bincount(of_essay[chosen], minlength=count)
    return weighed_share(sums.astype(np.float64), totals, average), sums / np.maximum(totals, 1)


def _known(together: NDArray[np.int64], by_chance: Values) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (together >= FEWEST_WRITERS) & (together >= by_chance)
    return known


def _by_chance(words: NDArray[np.int64], total: int, essays: int) -> Values:
    """In how many essays two words, with counts (2, U), would stand side by side if words stood anywhere."""
    pairs = words[0] * words[1].astype(np.float64) / max(total, 1)
    held: Values = essays * -np.expm1(-pairs / max(essays, 1))
    return held


def _words_of_pairs(
    essays: Essays, pairs: NDArray[np.uint64], place: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often the first and the second word of each pair stand in essays of a prompt, (2, U, P); all words, (P,)."""
    words = essays.words
    distinct, of_word = np.unique(words.words, return_inverse=True)
    cells = of_word.astype(np.int64) * essays.prompt_count + essays.prompts[words.essays]
    counts = np.bincount(cells, minlength=len(distinct) * essays.prompt_count).reshape(
        len(distinct), essays.prompt_count
    )
    beside = np.flatnonzero(words.essays[:-1] == words.essays[1:])
    anywhere = np.zeros(len(pairs), dtype=np.int64)
    anywhere[place] = beside
    return np.stack([counts[of_word[anywhere]], counts[of_word[anywhere + 1]]]), counts.sum(axis=0)


FUNCTION_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "English": """
            the of and to a in is it that was for on are as with his they i at be this have from or had by but not what
            all were we when your can said there use an each which she do how their if will up other about out many
            then them these so some her would make like him into has more no could my than been who its now did get
            you he me our because should very just also only even
        """,
        "German": """
            der die das und ist nicht ich zu den von sie mit es ein eine dem sich auf für des im auch als wie er wir hat
            aus bei nach war einen einer einem eines wird sind kann noch nur werden wenn über man mich mir dass daß
            oder aber sein seine seiner ihre ihr haben hatte wurde durch sehr mehr schon uns unser weil vor bis zum zur
            diese dieser dieses alle kein keine doch dann da so was um unter immer wieder habe bin du dir dich muss
            fuer ueber waren viele man am an in
        """,
        "French": """
            le la les de des du et est un une il elle je tu nous vous ils elles que qui ne pas ce cette ces se sa son
            ses dans en pour par sur avec plus mais ou où on au aux à a sont été être avoir fait faire tout tous toute
            toutes comme si nos notre votre leur leurs mon ma mes ton ta tes même aussi bien sans sous entre très peu
            quand donc car ont avait était ai suis es sommes êtes peut c'est j'ai qu'il qu'elle qu'on n'est d'un d'une
            s'il l'on il n'y y cela ça etre tres meme quelque deux encore
        """,
        "Spanish": """
            el la los las de del y en que es un una por con para se no su sus al lo como más pero le les o este esta
            esto ese esa porque cuando muy sin sobre ser son fue era también me mi mis tu si ya hay todo todos toda
            todas han ha he hasta desde nos nosotros ellos ella él yo tiene tienen está están estaba puede pueden entre
            dos donde qué cada uno otro otros otra así solo sólo había hacer mas tambien estan asi eran siempre
        """,
        "Italian": """
            il lo la i gli le di a da in con su per tra fra e che è un uno una non si del della dei delle dello degli
            al alla ai alle nel nella nei nelle dal dalla sul sulla come più ma anche se sono era ha ho hanno questo
            questa questi quello quella mi ti ci vi ne suo sua suoi loro noi voi io lui lei essere stato fare molto
            quando perché perche piu così cosi tutto tutti ogni dove chi cosa c'è po già ancora dopo
        """,
        "Portuguese": """
            o a os as de do da dos das e em no na nos nas um uma por para com não que se é são foi era ser ao à aos
            pelo pela mais mas como também muito ou seu sua seus suas ele ela eles elas eu nós você isso este esta esse
            essa isto quando já há tem têm está estão ter sobre entre até sem só porque onde cada todo todos toda
            todas meu minha nao sao voce tambem me lhe num numa foram
        """,
        "Dutch": """
            de het een en van in is dat op te zijn niet met voor er aan die ik je hij zij ze we wij was als ook bij
            door naar uit om dan maar nog wel kan kunnen worden wordt heeft hebben had over tot zo deze dit hun mijn
            geen meer moet veel wat hoe waar wie ons onze omdat of zou werd mensen heel want hem haar al alle
        """,
        "Swedish": """
            och att det i en på är som för av med till den har de inte om ett han hon men var sig från vi så kan när
            nu vid mot under också efter eller sin sina man mycket ut bara alla jag du ska skulle hade vara blir
            mer eftersom där här vad denna detta dem dess deras mig dig oss
        """,
        "Danish and Norwegian": """
            og at det i en på er som for af av med til den har de ikke om et han hun men var sig seg fra vi så kan når
            nu nå ved mod mot også efter etter eller sin man meget bare alle jeg du skal skulle havde hadde være blir
            bliver mere fordi hvor her der hvad hva denne dette dem dem deres mig meg dig deg os oss noget
        """,
        "Polish": """
            i w nie na się z do to że jest jak o a ale po co tak za od jej go są był była było być już tylko czy dla
            przez ich który która które kiedy bardzo jego mi ma też lub ten ta te tego tym może mogą gdy oraz przed pod
            bez sobie mnie nas wszystko ludzie ze sie byl moze juz
        """,
        "Czech": """
            a je se v na to že s z do o i jsem jako za by ale si po jsou který která které tak už když jen jeho pro
            nebo co ve ze byl byla bylo být podle její při od má není také jak než jejich nás mě mi jsme které protože
            pokud velmi více tom
        """,
        "Romanian": """
            și si în in de la a cu pe nu să sa un o care este ca că din mai pentru sunt ce se au dar fost era sau lui ei
            ale al ai le lor acest această aceasta prin fi foarte când cand cum dacă daca tot fiecare noi eu el ea mi am
            are după despre despre fără pentru
        """,
        "Hungarian": """
            a az és hogy nem is egy ez azt meg van volt de ha már csak mint el még vagy ki be fel minden én ő mi ők
            kell lesz lehet nagyon mert amely ami aki ezt ebben abban után akkor között által sok olyan nincs vannak
            pedig hanem
        """,
        "Finnish": """
            ja on ei se että hän oli ovat joka mutta niin kun myös tai sen jos kuin ole olla mitä mikä nyt vain
            hänen tämä minä sinä me te he koska jotka ettei sitä siitä siinä kaikki hyvin voi voivat ollut paljon
            mukaan jälkeen kanssa itse
        """,
        "Turkish": """
            ve bir bu da de için ile çok ne o ben sen biz onlar gibi daha var yok olan olarak kadar ama en her ki mi
            m\u0131 sonra değil olduğu bunu şey diye veya ya hem ise göre olur oldu benim bizim onun insan insanlar
            zaman kendi cok icin degil
        """,
        "Indonesian and Malay": """
            yang dan di ini itu dengan untuk tidak dari dalam akan pada juga saya ke karena kita mereka ada bisa oleh
            adalah sudah atau sebagai kami dia kalau hanya dapat lebih banyak orang anda saat harus seperti tetapi
            tapi bahwa telah para sangat bagi serta menjadi
        """,
        "Vietnamese": """
            là và của có không được cho người một trong những các với này đã khi để tôi đến ra như cũng về nhiều
            nhưng từ phải rất lại nếu thì mà bạn chúng làm việc vào sẽ vì hay trên còn sự học
        """,
        "Tagalog": """
            ang ng sa na mga at ay ko ako ito siya ka niya hindi para kung may mo si namin natin kami tayo sila nila
            ni rin din lang pero dahil kaya isang isa wala nang mas dito iyon po naman
        """,
        "Swahili": """
            na ya wa kwa ni katika za la kuwa cha kama hii watu lakini au hiyo pia sana yake wao kila bila huo huu
            wetu mimi yeye sisi ili hata kutoka baada wakati sababu yangu kwamba
        """,
    }.items()
}


# An essay that quotes a sentence or two is not in another language.
MILDEST_FOREIGN = 0.15
# Words in so many of the training essays, and alphabets of so many of their letters, are at home.
_HOME_WORDS, _HOME_LETTERS = 0.05, 0.01
# A language whose everyday words make up so much of the training essays is theirs.
_HOME_LANGUAGE = 0.15

# First and last code points of the letters of alphabets; what is not listed is LATIN or no letter.
LATIN = "Latin"
ALPHABETS: tuple[tuple[int, int, str], ...] = (
    (0x370, 0x3FF, "Greek"),
    (0x400, 0x52F, "Cyrillic"),
    (0x531, 0x58F, "Armenian"),
    (0x590, 0x5FF, "Hebrew"),
    (0x600, 0x77F, "Arabic"),
    (0x8A0, 0x8FF, "Arabic"),
    (0x900, 0xDFF, "Indic"),
    (0xE00, 0xEFF, "Thai and Lao"),
    (0xF00, 0xFFF, "Tibetan"),
    (0x1000, 0x109F, "Burmese"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x139F, "Ethiopic"),
    (0x13A0, 0x13FF, "Cherokee"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1800, 0x18AF, "Mongolian"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x3040, 0x30FF, "Chinese and Japanese"),
    (0x3130, 0x318F, "Hangul"),
    (0x3400, 0x9FFF, "Chinese and Japanese"),
    (0xAC00, 0xD7FF, "Hangul"),
    (0xF900, 0xFAFF, "Chinese and Japanese"),
    (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFC, "Arabic"),
    (0x20000, 0x3FFFF, "Chinese and Japanese"),
)
NAMES = (LATIN, *dict.fromkeys(name for _, _, name in ALPHABETS))


@dataclass(frozen=True, eq=False)
class Foreign:
    """What is foreign to the training essays.

    Args:
        words: Everyday words of other languages.
        home: Alphabets of the training essays, some of `NAMES`.
    """

    words: BitTable
    home: tuple[str, ...]

    def share(self, words: WordHashes, letters: Values) -> tuple[Values, Values]:
        """Each essay's share of foreign words and letters, as it is judged and as it is, both (N,).

        Args:
            words: N essays.
            letters: Their share of letters in foreign alphabets, (N,), of `letters_outside`.
        """
        return _shares(self.words.holds(words.words), words, letters)


def learn_foreign(essays: Essays, letters: Values) -> tuple[Foreign, Values]:
    """What is foreign to training essays, and the share of it that nearly all of them keep below, (P + 1,).

    Args:
        essays: The training essays, N >= 1.
        letters: Their letters in each alphabet of `NAMES`, (N, A).
    """
    totals = letters.sum(axis=0)
    home = tuple(name for name, count in zip(NAMES, totals, strict=True) if count > _HOME_LETTERS * totals.sum())
    words = essays.words
    counted = count_essays(words.words, words.essays, essays)
    common = counted.items[counted.essays.sum(axis=1) >= _HOME_WORDS * len(essays.prompts)]
    lists = _lists()
    spoken = {language: float(np.isin(words.words, own).mean()) for language, own in lists.items() if len(words.words)}
    language = max(spoken, key=lambda name: spoken[name], default=None)
    if language is not None and spoken[language] >= _HOME_LANGUAGE:
        common = np.concatenate([common, lists[language]])
    foreign = Foreign(BitTable.of(np.setdiff1d(np.concatenate(list(lists.values())), common)), home)
    judged, _ = foreign.share(words, share_outside(letters, home))
    return foreign, thresholds_by_prompt(judged, essays, "high", MILDEST_FOREIGN)


def letters_by_alphabet(texts: Sequence[str]) -> Values:
    """Letters of each text in each alphabet of `NAMES`, (N, A); of a text in ASCII 1 in `LATIN`."""
    counts = np.zeros((len(texts), len(NAMES)))
    for row, text in enumerate(texts):
        counts[row] = [1, *[0] * (len(NAMES) - 1)] if text.isascii() else _letters(text)
    return counts


def share_outside(letters: Values, home: Sequence[str]) -> Values:
    """Share of letters in other alphabets than those at home, (N,)."""
    outside = ~np.isin(NAMES, home)
    share: Values = letters[:, outside].sum(axis=1) / np.maximum(letters.sum(axis=1), 1)
    return share


def _letters(text: str) -> Values:
    codes = np.frombuffer("".join(filter(str.isalpha, text)).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    starts, ends, alphabets = _bounds()
    place = np.searchsorted(starts, codes, side="right") - 1
    inside = (place >= 0) & (codes <= ends[place])
    return np.bincount(np.where(inside, alphabets[place], 0), minlength=len(NAMES)).astype(np.float64)


def _shares(foreign: NDArray[np.bool_], words: WordHashes, letters: Values) -> tuple[Values, Values]:
    count = len(words.counts)
    sums = np.bincount(words.essays[foreign], minlength=count) + letters * words.counts
    sums = np.minimum(sums, words.counts).astype(np.float64)
    return weighed_share(sums, words.counts), sums / np.maximum(words.counts, 1)


@cache
def _bounds() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    starts, ends, names = zip(*ALPHABETS, strict=True)
    return np.array(starts), np.array(ends), np.array([NAMES.index(name) for name in names])


@cache
def _lists() -> dict[str, Hashes]:
    """Hashes of each language's everyday words."""
    return {
        language: np.unique(hash_words([normal_text(" ".join(sorted(words)))]).words)
        for language, words in FUNCTION_WORDS.items()
    }
