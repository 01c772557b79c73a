"""DICOM slides drawn for tests: a file a level, tiled in full or with white tiles left out."""

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    RLELossless,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)


def write_dicom(path, levels, mpp, *, tile_px=256, sparse=False, encode=None, **changed):
    """A series of a file a level, `path` the first, RLE if not told otherwise."""
    uids = {k: generate_uid() for k in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for number, level in enumerate(levels):
        file = path.with_name(f"{path.stem}{number or ''}{path.suffix}")
        one = _level(level, mpp * levels[0].shape[1] / level.shape[1], tile_px, uids, sparse=sparse)
        for name, value in changed.items():
            setattr(one, name, value)
        one.InstanceNumber = number + 1
        if encode is None:
            one.compress(RLELossless, generate_instance_uid=False)
        else:
            encode(one)
        one.save_as(file, enforce_file_format=True, implicit_vr=None)


def _level(level, mpp, tile_px, uids, *, sparse):
    """The dataset of one level, its pixels as they are; with `sparse` white tiles are left out."""
    height, width = level.shape[:2]
    rows, columns = -(-height // tile_px), -(-width // tile_px)
    full = np.full((rows * tile_px, columns * tile_px, *level.shape[2:]), 255, np.uint8)
    full[:height, :width] = level
    corners = [(y * tile_px, x * tile_px) for y in range(rows) for x in range(columns)]
    tiles = {(y, x): full[y : y + tile_px, x : x + tile_px] for y, x in corners}
    if sparse:
        tiles = {corner: tile for corner, tile in tiles.items() if tile.min() < 255}
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for name, uid in uids.items():
        setattr(one, name, uid)
    one.Modality, one.ImageType = "SM", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    one.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    one.TotalPixelMatrixColumns, one.TotalPixelMatrixRows = width, height
    one.TotalPixelMatrixFocalPlanes, one.NumberOfOpticalPaths = 1, 1
    one.Rows = one.Columns = tile_px
    one.NumberOfFrames = len(tiles)
    one.ImagedVolumeWidth, one.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
    one.ImagedVolumeDepth = 0.001
    one.SamplesPerPixel = level.shape[2] if level.ndim == 3 else 1
    one.PhotometricInterpretation = "RGB" if level.ndim == 3 else "MONOCHROME2"
    if level.ndim == 3:
        one.PlanarConfiguration = 0
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 8, 8, 7, 0
    measures, path = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    one.SharedFunctionalGroupsSequence = [shared]
    path.OpticalPathIdentifier = "1"
    one.OpticalPathSequence = [path]
    if sparse:
        one.PerFrameFunctionalGroupsSequence = [_place(y, x) for y, x in tiles]
    one.PixelData = b"".join(tile.tobytes() for tile in tiles.values())
    one["PixelData"].VR = "OB"
    return one


def _place(y, x):
    """Where a frame lies in its level, as a sparse slide states it."""
    place, frame = Dataset(), Dataset()
    place.ColumnPositionInTotalImagePixelMatrix, place.RowPositionInTotalImagePixelMatrix = x + 1, y + 1
    place.XOffsetInSlideCoordinateSystem = place.YOffsetInSlideCoordinateSystem = 0
    place.ZOffsetInSlideCoordinateSystem = 0
    frame.PlanePositionSlideSequence = [place]
    return frame
