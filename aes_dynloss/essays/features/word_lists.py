"""Word lists of English behind the features: function words, their classes, and connectives.

References:
    Pennebaker et al. 2015, The development and psychometric properties of LIWC2015 (classes of function words).
    Halliday and Hasan 1976, Cohesion in English (classes of connectives).
"""

from __future__ import annotations

FUNCTION_WORDS: tuple[str, ...] = tuple(
    word
    for line in (
        "the a an and or but so nor yet of to in for on with at by from about into over after before between",
        "through during without under against as like than because if when while although though since until",
        "unless whether that which who whom whose what where why how i me my mine myself we us our ours you your",
        "yours he him his she her hers it its they them their theirs this these those there here is am are was",
        "were be been being have has had do does did will would can could should may might must shall not no never",
        "all any some many much more most other another such each every both few only very too just even also",
        "still then now first one two up out down off back again",
    )
    for word in line.split()
)

FUNCTION_CLASSES: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "first_person_singular": "i me my mine myself",
        "first_person_plural": "we us our ours ourselves",
        "second_person": "you your yours yourself yourselves",
        "third_person": "he him his himself she her hers herself it its itself they them their theirs themselves",
        "articles": "the a an",
        "prepositions": "of to in for on with at by from about into over after before between through during without "
        "under against as like than toward towards upon within along across behind beyond among around near since "
        "until despite throughout beside besides except",
        "coordinators": "and or but so nor yet",
        "subordinators": "because if when while although though since until unless whether that as whereas whenever "
        "wherever once",
        "relatives": "which who whom whose that where",
        "auxiliaries": "is am are was were be been being have has had having do does did doing",
        "modals": "will would can could should may might must shall ought",
        "negations": "not no never none nothing nobody neither nor cannot dont cant wont didnt doesnt isnt wasnt",
        "quantifiers": "all any some many much more most few several each every both enough lots plenty",
        "interrogatives": "what where why how when who which",
        "demonstratives": "this that these those",
        "intensifiers": "very really too so quite extremely totally completely absolutely just even",
    }.items()
}

CONNECTIVES: dict[str, list[str]] = {
    name: phrases.split("|")
    for name, phrases in {
        "additive": "also|in addition|additionally|furthermore|moreover|besides|as well as|not only|along with|"
        "likewise|similarly",
        "contrastive": "however|but|although|though|even though|"
        "on the other hand|in contrast|nevertheless|nonetheless|instead|"
        "despite|in spite of|whereas|while|yet|rather than|unlike|still",
        "causal": "because|therefore|thus|so that|as a result|consequently|"
        "hence|due to|since|for this reason|that is why|"
        "in order to|leads to|caused by",
        "temporal": "then|after|before|when|until|meanwhile|during|"
        "while|eventually|suddenly|soon|later|at first|at the time|"
        "as soon as|finally|in the end",
        "enumerating": "first|firstly|second|secondly|third|thirdly|"
        "next|last|lastly|finally|to begin with|first of all|"
        "another",
        "exemplifying": "for example|for instance|such as|like|specifically|in particular|in fact|an example|namely|"
        "including",
        "concluding": "in conclusion|to conclude|overall|in summary|to sum up|all in all|in the end|therefore|"
        "as you can see",
        "conditional": "if|unless|whether|provided that|as long as|in case|otherwise",
        "stance": "i think|i believe|in my opinion|i feel|i know|it is clear|"
        "obviously|clearly|certainly|of course|probably|"
        "perhaps|maybe|seems|i agree|i disagree",
        "evidential": "according to|the author|the article|the text|the story|the passage|"
        "states|states that|says|shows|stated|"
        "quote|paragraph|research|studies|percent",
    }.items()
}
