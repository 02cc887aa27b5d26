"""Repeated decode -> pixel operations -> encode: how far the frames of a long video drift, hop by hop."""
