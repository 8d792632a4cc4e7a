"""Check, before any of them is built, that the four parts of a region head fit each other."""

from __future__ import annotations

from detkit.config.instantiate import name_of
from detkit.core.errors import UserError

# Parts say in class attributes what they are made for; one of a user's own need not, and is then not asked.
#   roi_pool.gives: "cells", k x k of each region; "crops", pictures of the regions; "votes", cells of score maps
#   box_head.reads: "cells", "crops", or "image", the map of the whole image
#   predictor.reads: "regions", D numbers of each; or "image"
#   roi_head.per: "region", where box head and predictor read what pooling gives; "image", where it reads what they do
#   roi_head.timed, roi_head.compilable, proposer.compilable: submodules; see `detkit.model.protocols`


def check_region_parts(*, roi_pool: object, box_head: object, predictor: object, roi_head: object) -> None:
    """Raise UserError for the first of the parts, built or partial, that does not fit the ones before it."""
    if box_head is not None and roi_pool is None:
        raise UserError("model.box_head reads what model.roi_pool gives, and there is none: choose model/roi_pool=...")
    if predictor is not None and box_head is None:
        raise UserError("model.predictor reads what model.box_head gives, and there is none: choose model/box_head=...")
    gives, reads = _said(roi_pool, "gives"), _said(box_head, "reads")
    if _said(roi_head, "per") == "image":
        head = f"model.roi_head ({name_of(roi_head)}) computes score maps of the whole image"
        if gives not in (None, "votes"):
            raise UserError(_misfit("roi_pool", roi_pool, f"{head}: take model/roi_pool=ps_roi_pool or ps_roi_align"))
        if reads not in (None, "image"):
            raise UserError(_misfit("box_head", box_head, f"{head}: take model/box_head=dilated_res5 or dilated_timm"))
        if _said(predictor, "reads") not in (None, "image"):
            raise UserError(_misfit("predictor", predictor, f"{head}: take model/predictor=position_sensitive"))
        return
    if gives == "votes":
        raise UserError(
            _misfit(
                "roi_pool",
                roi_pool,
                "it reads score maps of the whole image, which needs model/predictor=position_sensitive, "
                "model/roi_head=rfcn and model/box_head=dilated_res5 or dilated_timm (model=rfcn_light has them all); "
                "otherwise take model/roi_pool=roi_align or roi_pool",
            )
        )
    if reads == "image":
        raise UserError(
            _misfit(
                "box_head",
                box_head,
                "it reads the map of the whole image for model/roi_head=rfcn; take another model/box_head",
            )
        )
    if None not in (gives, reads) and gives != reads:
        fitting = (
            "it reads pictures of regions: take model/roi_pool=crop_warp with model/backbone=pixels, or "
            "model/box_head=two_fc, conv_fc or light_conv"
            if reads == "crops"
            else f"model.roi_pool ({name_of(roi_pool)}) gives pictures of regions: take model/box_head=region_cnn or "
            "region_vgg"
        )
        raise UserError(_misfit("box_head", box_head, fitting))
    if _said(predictor, "reads") == "image":
        raise UserError(
            _misfit("predictor", predictor, "it makes score maps for model/roi_head=rfcn; take model/predictor=linear")
        )


def _said(part: object, name: str) -> str | None:
    """Return a class attribute of a part or of what it is a partial of."""
    said: str | None = getattr(getattr(part, "func", part), name, None)
    return said


def _misfit(kind: str, part: object, reason: str) -> str:
    return f"model.{kind} ({name_of(part)}) does not fit: {reason}"
