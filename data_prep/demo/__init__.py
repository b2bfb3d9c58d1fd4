"""The demo set's drawings: outlines → animals → scenes over a scenery → a devkit.

The scenes are made so that adversarial erasing has something to show. The evidence for a class
comes in levels: a small vivid head, a coat whose tint and pattern are strong next to the head and
fade away from it, and a background that goes only mildly with the class. A classifier looks at
the head first; erase it, and the next one has to find the coat.
"""
