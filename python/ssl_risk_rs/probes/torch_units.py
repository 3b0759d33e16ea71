"""Units in which values fill float16's range; powers of 2. The kernels and what they are tested against share them."""

__all__ = ["CURVATURE_UNIT", "LOW", "RESIDUAL_UNIT"]

#: the second half of a pair counts 1 / LOW
LOW = 2048.0
#: residuals lie between −1 and 1, their curvature between 0 and 1/4
RESIDUAL_UNIT = 32768.0
CURVATURE_UNIT = 131072.0
