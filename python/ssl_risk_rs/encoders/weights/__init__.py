"""Files of weights: reading them without running them, names and layouts, matching to a network, downloading.

`inert` and `archives` turn a file into plain values, `naming` finds the tensors in them, `dialects` translates other
libraries' names, `matching` assigns tensors to a network, `download` fetches and verifies files of the catalogue.
"""
