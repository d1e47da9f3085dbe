"""The standing study ``published``: what the article's own grid says, with intervals. It needs no
training.
"""
