"""The report's figures: one module each, every one a function from documents and a width to inline SVG.

Colours and fonts come from the page's style sheet, so that a figure follows light and dark schemes and
print. Lengths are CSS pixels at the width asked for.
"""
