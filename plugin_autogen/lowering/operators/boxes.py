"""NonMaxSuppression, RoiAlign and MaxRoiPool."""

from __future__ import annotations

from typing import Any

from plugin_autogen.lowering.registry import NodeContext, converter

THREADS = 256


@converter("NonMaxSuppression", since=10)
def _non_max_suppression(context: NodeContext) -> Any:
    """One block for each batch and class takes the best box left and drops those that overlap it, again and again.

    The number of results depends on the data. Of the rows that the model states, or that there are on TensorRT 8, those
    that stay free hold -1.
    """
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    (batches, classes, boxes), dtype = context.shape(1), context.dtype(0)
    most = int(context.constant(2).reshape(-1)[0]) if context.has_input(2) else 0
    most = tl.smaller(min(max(0, most), tl.INT32_LIMIT), boxes)
    bound = context.size_bound({0: 0}, batches * classes * most)
    center = bool(context.attribute("center_point_box", 0))
    scalars = [context.input(i) for i in (3, 4) if context.has_input(i)]
    has_iou, has_score = context.has_input(3), context.has_input(4)
    zero, none = tirx.const(0, dtype), tirx.const(-1, "int32")

    def corners(all_boxes: Any, batch: Any, i: Any) -> list[Any]:
        a, b, c, d = (all_boxes[batch, i, k] for k in range(4))
        if center:
            half_w, half_h = c / tirx.const(2, dtype), d / tirx.const(2, dtype)
            edges = [b - half_h, a - half_w, b + half_h, a + half_w]
        else:
            edges = [tirx.min(a, c), tirx.min(b, d), tirx.max(a, c), tirx.max(b, d)]
        return [tl.bind(e) for e in edges]

    def overlap(all_boxes: Any, batch: Any, i: Any, j: Any, threshold: Any) -> Any:
        """Whether the intersection of two boxes is more than this share of their union."""
        top_i, left_i, bottom_i, right_i = corners(all_boxes, batch, i)
        top_j, left_j, bottom_j, right_j = corners(all_boxes, batch, j)
        height = tirx.min(bottom_i, bottom_j) - tirx.max(top_i, top_j)
        width = tirx.min(right_i, right_j) - tirx.max(left_i, left_j)
        shared = tl.bind(tirx.max(height, zero) * tirx.max(width, zero))
        area_i = tl.bind((bottom_i - top_i) * (right_i - left_i))
        area_j = tl.bind((bottom_j - top_j) * (right_j - left_j))
        union = tl.bind(area_i + area_j - shared)
        return tirx.all(area_i > zero, area_j > zero, union > zero, shared / union > threshold)

    def body(all_boxes: Any, scores: Any, *rest: Any) -> None:
        *limits, chosen, counts, found = rest
        first = [0] * len(limits[0].shape) if limits else []
        threshold = limits[0][tuple(first)] if has_iou else zero
        least = limits[-1][tuple([0] * len(limits[-1].shape))] if has_score else None
        left = tl.scratch([batches, classes, boxes], "uint8")
        with tl.block(batches, classes, threads=THREADS) as (batch, cls):
            places, best = tl.shared([THREADS], "int32"), tl.shared([THREADS], dtype)
            taken, finished = tl.shared([1], "int32"), tl.shared([1], "int32")
            with tl.thread(boxes) as (i,):
                allowed = scores[batch, cls, i] > least if least is not None else tirx.const(True, "bool")
                left[batch, cls, i] = allowed.astype("uint8")
            taken[0], finished[0] = tirx.const(0, "int32"), tirx.const(0, "int32")
            with tl.serial(most) as _, tl.when(finished[0] == 0):
                with tl.thread(THREADS) as (t,):
                    places[t], best[t] = none, zero
                    with tl.serial(tl.ceil_divide(boxes, THREADS)) as step:
                        i = tl.bind(step * THREADS + t)
                        with tl.when(i < boxes), tl.when(left[batch, cls, i] == tirx.const(1, "uint8")):
                            score = scores[batch, cls, i]
                            with tl.when(tirx.any(places[t] < 0, score > best[t])):
                                places[t], best[t] = i, score
                half = THREADS // 2
                while half:
                    with tl.thread(half) as (t,):
                        other, score = places[t + half], best[t + half]
                        ahead = tirx.any(score > best[t], tirx.all(score == best[t], other < places[t]))
                        with tl.when(tirx.all(other >= 0, tirx.any(places[t] < 0, ahead))):
                            best[t] = score
                            places[t] = other
                    half //= 2
                with tl.when(places[0] < 0):
                    finished[0] = tirx.const(1, "int32")
                with tl.when(places[0] >= 0):
                    chosen[batch, cls, taken[0]] = places[0]
                    taken[0] = taken[0] + 1
                with (
                    tl.thread(boxes) as (i,),
                    tl.when(tirx.all(places[0] >= 0, left[batch, cls, i] == tirx.const(1, "uint8"))),
                    tl.when(tirx.any(i == places[0], overlap(all_boxes, batch, i, places[0], threshold))),
                ):
                    left[batch, cls, i] = tirx.const(0, "uint8")
            counts[batch, cls] = taken[0]
        with tl.block(1, threads=1) as _:
            total = tl.local("int64")
            total[0] = tirx.const(0, "int64")
            with tl.serial(batches) as batch, tl.serial(classes) as cls:
                total[0] = total[0] + counts[batch, cls].astype("int64")
            found[0] = total[0]

    def list_rows(chosen: Any, counts: Any, result: Any) -> None:
        with tl.grid(rows) as (row,):
            offset = tl.local("int32")
            offset[0] = row
            for column in range(3):
                result[row, column] = tirx.const(-1, "int64")
            with tl.serial(batches) as batch, tl.serial(classes) as cls:
                own = tl.bind(counts[batch, cls])
                with tl.when(tirx.all(offset[0] >= 0, offset[0] < own)):
                    result[row, 0], result[row, 1] = batch.astype("int64"), cls.astype("int64")
                    result[row, 2] = chosen[batch, cls, offset[0]].astype("int64")
                offset[0] = offset[0] - own

    inputs = [context.input(0), context.input(1), *scalars]
    shapes = [batches, classes, tl.larger(most, 1)], [batches, classes], [1]
    outputs = list(zip(shapes, ("int32", "int32", "int64"), strict=True))
    chosen, counts, found = tl.kernel(context, body, inputs, outputs)
    rows = context.declare_size(bound, found)
    return tl.kernel(context, list_rows, [chosen, counts], [([rows, 3], "int64")], "rows")


@converter("RoiAlign", since=10)
def _roi_align(context: NodeContext) -> Any:
    """One thread for each result walks over the sampling points of its bin."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    (_, channels, height, width), dtype = context.shape(0), context.dtype(0)
    rois = context.shape(1)[0]
    bins_h, bins_w = int(context.attribute("output_height", 1)), int(context.attribute("output_width", 1))
    sampling = int(context.attribute("sampling_ratio", 0))
    scale = float(context.attribute("spatial_scale", 1.0))
    maximum = context.attribute("mode", "avg") == "max"
    half_pixel = (
        context.opset >= 16 and context.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    )
    work = tl.accumulator(dtype)

    def real(value: float) -> Any:
        return tirx.const(value, work)

    def edges(boxes: Any, roi: Any, low: int) -> tuple[Any, Any]:
        """Start and extent of the region along one axis."""
        shift = real(0.5 if half_pixel else 0.0)
        start = tl.bind(boxes[roi, low].astype(work) * real(scale) - shift)
        extent = boxes[roi, low + 2].astype(work) * real(scale) - shift - start
        return start, tl.bind(extent if half_pixel else tirx.max(extent, real(1.0)))

    def points(extent: Any, bins: int) -> Any:
        if sampling > 0:
            return tirx.const(sampling, "int32")
        return tl.bind(tirx.max(tirx.ceil(extent / real(bins)), real(0)).astype("int32"))

    def neighbours(place: Any, size: Any) -> tuple[Any, Any, Any]:
        """The two elements around a coordinate and the weight of the second."""
        inside = tirx.max(place, real(0))
        low = tl.bind(tirx.min(inside.astype("int32"), size - 1))
        high = tl.bind(tirx.min(low + 1, size - 1))
        weight = tirx.Select(low >= size - 1, real(0), inside - low.astype(work))
        return low, high, tl.bind(weight)

    def body(x: Any, boxes: Any, batch_of: Any, result: Any) -> None:
        with tl.grid(rois, channels, bins_h, bins_w) as (roi, channel, bin_h, bin_w):
            start_w, extent_w = edges(boxes, roi, 0)
            start_h, extent_h = edges(boxes, roi, 1)
            size_h, size_w = tl.bind(extent_h / real(bins_h)), tl.bind(extent_w / real(bins_w))
            count_h, count_w = points(extent_h, bins_h), points(extent_w, bins_w)
            image = tl.bind(batch_of[roi].astype("int32"))
            total, seen = tl.local(work), tl.local("int32")
            total[0], seen[0] = real(0), tirx.const(0, "int32")
            with tl.serial(count_h) as i, tl.serial(count_w) as j:
                step_h, step_w = (i.astype(work) + real(0.5)), (j.astype(work) + real(0.5))
                y = tl.bind(start_h + bin_h.astype(work) * size_h + step_h * size_h / count_h.astype(work))
                z = tl.bind(start_w + bin_w.astype(work) * size_w + step_w * size_w / count_w.astype(work))
                beyond_h = tirx.any(y < real(-1), y > tl.real(height, work))
                beyond_w = tirx.any(z < real(-1), z > tl.real(width, work))
                outside = tl.bind(tirx.any(beyond_h, beyond_w))
                top, bottom, part_h = neighbours(y, height)
                left, right, part_w = neighbours(z, width)

                def corner(row: Any, column: Any, share_h: Any, share_w: Any, outside: Any = outside) -> Any:
                    value = share_h * share_w * x[image, channel, row, column].astype(work)
                    return tirx.Select(outside, real(0), value)

                rest_h, rest_w = real(1) - part_h, real(1) - part_w
                corners = [
                    corner(top, left, rest_h, rest_w),
                    corner(top, right, rest_h, part_w),
                    corner(bottom, left, part_h, rest_w),
                    corner(bottom, right, part_h, part_w),
                ]
                if maximum:  # of the weighted corners, as ONNX's reference has it
                    largest = tirx.max(tirx.max(corners[0], corners[1]), tirx.max(corners[2], corners[3]))
                    total[0] = tirx.Select(seen[0] == 0, largest, tirx.max(total[0], largest))
                    seen[0] = tirx.const(1, "int32")
                else:
                    total[0] = total[0] + (corners[0] + corners[1] + corners[2] + corners[3])
            value = total[0]
            if not maximum:
                value = value / tirx.max(count_h * count_w, 1).astype(work)
            result[roi, channel, bin_h, bin_w] = value.astype(dtype)

    inputs = [context.input(i) for i in range(3)]
    return tl.kernel(context, body, inputs, [([rois, channels, bins_h, bins_w], dtype)])


@converter("MaxRoiPool", since=1)
def _max_roi_pool(context: NodeContext) -> Any:
    """One thread for each result takes the largest element of its bin; an empty bin gives 0."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    (_, channels, height, width), dtype = context.shape(0), context.dtype(0)
    rois = context.shape(1)[0]
    bins_h, bins_w = (int(d) for d in context.attribute("pooled_shape"))
    scale = float(context.attribute("spatial_scale", 1.0))
    work = tl.accumulator(dtype)

    def real(value: float) -> Any:
        return tirx.const(value, work)

    def span(boxes: Any, roi: Any, low: int, index: Any, bins: int, size: Any) -> tuple[Any, Any]:
        """First element and number of elements of a bin along one axis."""

        def whole(column: int) -> Any:  # halves away from zero, as C's round
            value = boxes[roi, column].astype(work) * real(scale)
            rounded = tirx.floor(tirx.abs(value) + real(0.5))
            return tirx.Select(value < real(0), real(0) - rounded, rounded).astype("int32")

        start = tl.bind(whole(low))
        extent = tl.bind(tirx.max(whole(low + 2) - start + 1, 1))
        bin_size = tl.bind(extent.astype(work) / real(bins))
        first = tirx.floor(index.astype(work) * bin_size).astype("int32") + start
        last = tirx.ceil((index + 1).astype(work) * bin_size).astype("int32") + start
        first, last = (tl.bind(tirx.min(tirx.max(v, 0), size)) for v in (first, last))
        return first, tl.bind(tirx.max(last - first, 0))

    def body(x: Any, boxes: Any, result: Any) -> None:
        with tl.grid(rois, channels, bins_h, bins_w) as (roi, channel, bin_h, bin_w):
            image = tl.bind(boxes[roi, 0].astype("int32"))
            first_w, count_w = span(boxes, roi, 1, bin_w, bins_w, width)
            first_h, count_h = span(boxes, roi, 2, bin_h, bins_h, height)
            largest = tl.local(work)
            largest[0] = real(0)
            with tl.serial(count_h) as i, tl.serial(count_w) as j:
                value = x[image, channel, first_h + i, first_w + j].astype(work)
                largest[0] = tirx.Select(tirx.any(i + j == 0, value > largest[0]), value, largest[0])
            result[roi, channel, bin_h, bin_w] = largest[0].astype(dtype)

    return tl.kernel(context, body, [context.input(0), context.input(1)], [([rois, channels, bins_h, bins_w], dtype)])
