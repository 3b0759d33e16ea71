"""Architectures that timm does not have, and the features of any network.

`resnet`, `small`, `codec` hold networks, `build` makes one from its name, `features` names what it offers.
"""
