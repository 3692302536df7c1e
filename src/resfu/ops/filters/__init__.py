"""Window means, the guided filter and the 3 x 3 Gaussian: the filters that align query and key."""

from resfu.ops.filters.api import box_filter, gaussian_filter, guided_filter

__all__ = ["box_filter", "gaussian_filter", "guided_filter"]
