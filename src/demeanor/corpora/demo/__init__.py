"""The synthetic demo corpus: a generator with planted truth, and the best scores that truth allows.

`python -m demeanor.corpora.demo --output FOLDER --seed N` makes the clips (needs espeak-ng), and
`python -m demeanor.corpora.demo ceiling FOLDER` computes what a perfect reader of them could reach.
"""
