"""Where a photo lies in the maps of a network that shrinks it, or pads it to a size that it accepts."""

from dataclasses import dataclass

from resfu.visualize.picture import Picture

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Frame:
    """A photo and what the network's maps cover: the photo, padded at the bottom and right.

    Attributes:
        photo: (H, W) of the photo.
        covered: (H, W) of the padded photo, which every map covers, in pixels of the photo; at least `photo`.
    """

    photo: tuple[int, int]
    covered: tuple[float, float]

    @property
    def share(self) -> tuple[float, float]:
        """The part (of the rows, of the columns) of every map that shows the photo itself."""
        return self.photo[0] / self.covered[0], self.photo[1] / self.covered[1]

    def kept(self, size: tuple[int, int]) -> tuple[int, int]:
        """How many rows and columns of a map of this size show the photo itself; at least one."""
        rows, columns = (max(1, round(n * part)) for n, part in zip(size, self.share, strict=True))
        return rows, columns

    def crop(self, picture: Picture) -> Picture:
        """The part of a map's picture that shows the photo itself."""
        rows, columns = self.kept((picture.shape[0], picture.shape[1]))
        return picture[:rows, :columns]

    def under(self, photo: Picture, window: Window, size: tuple[int, int]) -> Picture:
        """The part of the photo that lies under a window of a map of this size."""
        rows, columns = (
            slice(min(round(w.start * c / n), i - 1), max(round(w.stop * c / n), round(w.start * c / n) + 1))
            for w, n, c, i in zip(window, size, self.covered, self.photo, strict=True)
        )
        return photo[rows, columns]

    def to_map(self, pixel: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """The pixel of a map of this size that contains the centre of a photo's pixel.

        Raises:
            ValueError: for a pixel outside the photo.
        """
        if not all(0 <= p < n for p, n in zip(pixel, self.photo, strict=True)):
            raise ValueError(
                f"pixel {pixel[0]},{pixel[1]} lies outside the image: Y goes from 0 to {self.photo[0] - 1} and "
                f"X from 0 to {self.photo[1] - 1}."
            )
        row, column = (int((p + 0.5) * n / c) for p, n, c in zip(pixel, size, self.covered, strict=True))
        return row, column

    def to_photo(self, place: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """The photo's pixel at the centre of a pixel of a map of this size."""
        y, x = (
            min(int((p + 0.5) * c / n), i - 1) for p, n, c, i in zip(place, size, self.covered, self.photo, strict=True)
        )
        return y, x
