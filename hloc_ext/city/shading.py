"""Compiled kernels: what a ray meets (:func:`surfaces`), how bright that is (:func:`illuminate`)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Liberties that the compiler may take; the same machine gives the same result.
_FAST = {"contract", "reassoc", "nsz", "arcp"}
#: Weathering is laid over surfaces twice: metres that its picture covers.
_FINE, _COARSE = 38.0, 197.0
#: Lamps reach so far, in metres.
LAMP_REACH = 30.0


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _texel(p, index, level, u, v):
    """Bilinear value of one level of a picture: sRGB, 0 to 255."""
    width = max(p.sizes[index, 0] >> level, 1)
    height = max(p.sizes[index, 1] >> level, 1)
    x = u * width - 0.5
    y = v * height - 0.5
    x0 = math.floor(x)
    y0 = math.floor(y)
    fx = x - x0
    fy = y - y0
    x1 = x0 + 1
    y1 = y0 + 1
    if p.repeats[index]:
        x0 &= width - 1
        x1 &= width - 1
        y0 &= height - 1
        y1 &= height - 1
    else:
        x0 = min(max(x0, 0), width - 1)
        x1 = min(max(x1, 0), width - 1)
        y0 = min(max(y0, 0), height - 1)
        y1 = min(max(y1, 0), height - 1)
    top = p.offsets[index, level] + y0 * width
    bottom = p.offsets[index, level] + y1 * width
    a, b, c, d = np.uint64(top + x0), np.uint64(top + x1), np.uint64(bottom + x0), np.uint64(bottom + x1)
    wa = (1 - fx) * (1 - fy)
    wb = fx * (1 - fy)
    wc = (1 - fx) * fy
    wd = fx * fy
    t = p.pixels
    return (
        t[a, 0] * wa + t[b, 0] * wb + t[c, 0] * wc + t[d, 0] * wd,
        t[a, 1] * wa + t[b, 1] * wb + t[c, 1] * wc + t[d, 1] * wd,
        t[a, 2] * wa + t[b, 2] * wb + t[c, 2] * wc + t[d, 2] * wd,
    )


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _filtered(p, index, u, v, lod):
    """Trilinear value of a picture, sRGB, 0 to 255; `lod` is the level, a fraction between two."""
    low = int(lod)
    r, g, b = _texel(p, index, low, u, v)
    part = lod - low
    if part > 0.02:
        r1, g1, b1 = _texel(p, index, low + 1, u, v)
        r += (r1 - r) * part
        g += (g1 - g) * part
        b += (b1 - b) * part
    return r, g, b


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _grey(p, index, u, v, texels):
    """As :func:`_filtered`, of a grey picture that stores a factor: its value as stored, 0 to 255."""
    lod = math.log2(max(texels, 1.0))
    lod = min(lod, p.levels[index] - 1.0)
    level = int(lod + 0.5)
    width = max(p.sizes[index, 0] >> level, 1)
    height = max(p.sizes[index, 1] >> level, 1)
    x = u * width - 0.5
    y = v * height - 0.5
    x0 = math.floor(x)
    y0 = math.floor(y)
    fx = x - x0
    fy = y - y0
    x1 = (x0 + 1) & (width - 1)
    y1 = (y0 + 1) & (height - 1)
    x0 &= width - 1
    y0 &= height - 1
    base = p.offsets[index, level]
    t = p.pixels
    top = t[base + y0 * width + x0, 0] * (1 - fx) + t[base + y0 * width + x1, 0] * fx
    bottom = t[base + y1 * width + x0, 0] * (1 - fx) + t[base + y1 * width + x1, 0] * fx
    return top * (1 - fy) + bottom * fy


@njit(cache=True)
def _random(number, salt):
    """A number from 0 to 1 that depends on nothing but two integers (a multiplicative hash)."""
    h = (np.uint64(number) + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(32)
    return float(h >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _weathering(p, strength, x, y, object_id, footprint):
    """Factor by which stains and dust change a surface at (x, y) metres of its plane."""
    index = len(p.levels) - 2
    width = p.sizes[index, 0]
    u = x / _FINE + _random(object_id, 1)
    v = y / _FINE + _random(object_id, 2)
    fine = _grey(p, index, u, v, footprint / _FINE * width) / 128.0
    u = (0.8 * x - 0.6 * y) / _COARSE + _random(object_id, 3)
    v = (0.6 * x + 0.8 * y) / _COARSE + _random(object_id, 4)
    coarse = _grey(p, index, u, v, footprint / _COARSE * width) / 128.0
    return (1 + (fine - 1) * strength) * (1 + (coarse - 1) * strength * 0.8)


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def surfaces(
    p,
    mesh,
    origins,
    directions,
    triangle,
    spread,
    width,
    max_taps,
    distance,
    normal,
    albedo,
    gloss,
    glow,
    label,
    key,
):
    """Fill in what the rays meet; rays with triangle < 0 are left as they are.

    Args:
        p: the :class:`~hloc_ext.city.pyramids.Pyramids`.
        mesh: (vertices, uv, texture, tint, label, object_id, glow), arrays of a ``Mesh``.
        origins, directions: rays, (N, 3) float64, unit directions.
        triangle: the triangle that each ray meets, (N,) int32.
        spread: angle between neighbouring rays, radians.
        width: distance between the origins of neighbouring rays, metres (parallel rays).
        max_taps: samples along the longer axis of a slanted pixel's footprint, at most.
        distance: (N,) float64, to be filled: along the ray.
        normal: (N, 3) float32, to be filled: unit, towards the viewer.
        albedo: (N, 3) float32, to be filled: linear.
        gloss: (N,) float32, to be filled; −1 marks translucent surfaces.
        glow: (N,) float32, to be filled: 0 to 1.
        label: (N,) uint8, to be filled.
        key: (N,) uint16, to be filled: differs (nearly always) between surfaces of different things,
            materials or directions.
    """
    vertices, uvs, textures, tints, labels, object_ids, glows = mesh
    for i in range(len(triangle)):
        f = triangle[i]
        if f < 0:
            continue
        ax, ay, az = float(vertices[f, 0, 0]), float(vertices[f, 0, 1]), float(vertices[f, 0, 2])
        e1x, e1y, e1z = vertices[f, 1, 0] - ax, vertices[f, 1, 1] - ay, vertices[f, 1, 2] - az
        e2x, e2y, e2z = vertices[f, 2, 0] - ax, vertices[f, 2, 1] - ay, vertices[f, 2, 2] - az
        nx = e1y * e2z - e1z * e2y
        ny = e1z * e2x - e1x * e2z
        nz = e1x * e2y - e1y * e2x
        square = nx * nx + ny * ny + nz * nz
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        ox, oy, oz = origins[i, 0], origins[i, 1], origins[i, 2]
        slant = nx * dx + ny * dy + nz * dz
        if square < 1e-16 or slant == 0.0:
            continue
        t = (nx * (ax - ox) + ny * (ay - oy) + nz * (az - oz)) / slant
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        # Gradients of the barycentric coordinates of the second and third corner in the plane.
        g1x = (e2y * nz - e2z * ny) / square
        g1y = (e2z * nx - e2x * nz) / square
        g1z = (e2x * ny - e2y * nx) / square
        g2x = (ny * e1z - nz * e1y) / square
        g2y = (nz * e1x - nx * e1z) / square
        g2z = (nx * e1y - ny * e1x) / square
        px, py, pz = x - ax, y - ay, z - az
        b1 = g1x * px + g1y * py + g1z * pz
        b2 = g2x * px + g2y * py + g2z * pz
        u0, v0 = uvs[f, 0, 0], uvs[f, 0, 1]
        du1, dv1 = uvs[f, 1, 0] - u0, uvs[f, 1, 1] - v0
        du2, dv2 = uvs[f, 2, 0] - u0, uvs[f, 2, 1] - v0
        u = u0 + b1 * du1 + b2 * du2
        v = v0 + b1 * dv1 + b2 * dv2

        scale = 1.0 / math.sqrt(square)
        if slant > 0:
            scale = -scale
        nx *= scale
        ny *= scale
        nz *= scale
        cosine = max(-(nx * dx + ny * dy + nz * dz), 0.02)
        # Footprint of the pixel on the plane: `minor` metres across, `minor / cosine` along (mx, my, mz).
        minor = width + spread * t
        mx, my, mz = dx + cosine * nx, dy + cosine * ny, dz + cosine * nz
        length = math.sqrt(mx * mx + my * my + mz * mz)
        major = minor / cosine
        if length < 1e-6:  # seen from straight ahead: any direction in the plane
            mx, my, mz = e1x, e1y, e1z
            length = math.sqrt(mx * mx + my * my + mz * mz)
        mx /= length
        my /= length
        mz /= length
        a1 = g1x * mx + g1y * my + g1z * mz
        a2 = g2x * mx + g2y * my + g2z * mz
        du, dv = (a1 * du1 + a2 * du2) * major, (a1 * dv1 + a2 * dv2) * major
        sx, sy, sz = ny * mz - nz * my, nz * mx - nx * mz, nx * my - ny * mx
        c1 = g1x * sx + g1y * sy + g1z * sz
        c2 = g2x * sx + g2y * sy + g2z * sz
        su, sv = (c1 * du1 + c2 * du2) * minor, (c1 * dv1 + c2 * dv2) * minor
        texture = textures[f]
        tw, th = p.sizes[texture, 0], p.sizes[texture, 1]
        along = math.sqrt((du * tw) ** 2 + (dv * th) ** 2)
        across = math.sqrt((su * tw) ** 2 + (sv * th) ** 2)
        taps = int(min(max(math.ceil(along / max(across, 1.0)), 1.0), float(max_taps)))
        texels = max(across, along / taps)
        lod = min(math.log2(max(texels, 1.0)), p.levels[texture] - 1.0)
        r = g = b = 0.0
        for tap in range(taps):
            shift = (tap + 0.5) / taps - 0.5
            tr, tg, tb = _filtered(p, texture, u + shift * du, v + shift * dv, lod)
            r += tr
            g += tg
            b += tb
        lin = p.linear
        r, g, b = lin[int(r * 16 / taps)], lin[int(g * 16 / taps)], lin[int(b * 16 / taps)]
        factor = 1.0
        strength = p.weathering[texture]
        if strength > 0:
            if abs(nz) > 0.7:
                wx, wy = x, y
            else:
                wx, wy = x * ny - y * nx, -z
                if nx * 0.92 + ny * 0.39 < 0:
                    wx += 17.3
            factor *= _weathering(p, strength, wx, wy, object_ids[f], minor / math.sqrt(cosine))
        albedo[i, 0] = min(r * factor * tints[f, 0] / 255.0, 0.95)
        albedo[i, 1] = min(g * factor * tints[f, 1] / 255.0, 0.95)
        albedo[i, 2] = min(b * factor * tints[f, 2] / 255.0, 0.95)
        distance[i] = t
        normal[i, 0], normal[i, 1], normal[i, 2] = nx, ny, nz
        gloss[i] = -1.0 if p.translucent[texture] else p.gloss[texture]
        glow[i] = lin[glows[f] * 16]
        label[i] = labels[f]
        turn = int(nx * 15.5 + 16.0) * 1024 + int(ny * 15.5 + 16.0) * 32 + int(nz * 15.5 + 16.0)
        key[i] = (
            turn * 7919 + int(texture) * 104729 + int(object_ids[f]) * 31337 + int(tints[f, 0]) * 577
        ) & 0x7FFF


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _sky(p, light, dx, dy, dz):
    """Radiance of the sky, times pi, in a direction."""
    up = max(dz, 0.0)
    blend = (1 - up) ** 4
    to_sun = dx * light.to_sun[0] + dy * light.to_sun[1] + dz * light.to_sun[2]
    halo = max(to_sun, 0.0) ** 40 * 0.6 + max(to_sun, 0.0) ** 6 * 0.12
    r = light.zenith[0] + (light.horizon[0] - light.zenith[0]) * blend + light.sun[0] * halo
    g = light.zenith[1] + (light.horizon[1] - light.zenith[1]) * blend + light.sun[1] * halo
    b = light.zenith[2] + (light.horizon[2] - light.zenith[2]) * blend + light.sun[2] * halo
    if light.clouds > 0 and dz > 0.015:
        index = len(p.levels) - 1
        scale = 0.16 / (dz + 0.12)
        u = dx * scale + light.cloud_shift[0]
        v = dy * scale + light.cloud_shift[1]
        cover = _grey(p, index, u, v, 1.0 + 0.6 / (dz + 0.12)) / 255.0
        cover = (cover - (1 - light.clouds) * 0.75) / 0.35
        cover = min(max(cover, 0.0), 1.0)
        cover *= min(dz / 0.12, 1.0)
        shade = _grey(p, index, u * 1.9 + 0.37, v * 1.9 + 0.11, 2.0 + 1.2 / (dz + 0.12)) / 255.0
        bright = 0.75 + 0.5 * shade - 0.25 * cover
        lit = 0.5 * (light.sun[0] + light.sun[1] + light.sun[2]) / 3
        mean = (light.horizon[0] + light.horizon[1] + light.horizon[2]) / 3
        cr = (lit + 0.75 * mean + 0.25 * light.horizon[0]) * bright
        cg = (lit + 0.75 * mean + 0.25 * light.horizon[1]) * bright
        cb = (lit + 0.75 * mean + 0.25 * light.horizon[2]) * bright
        r += (cr - r) * cover
        g += (cg - g) * cover
        b += (cb - b) * cover
    return r, g, b


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def sky(p, light, directions, missed, radiance):
    """Fill the radiance of the rays that meet nothing; (N, 3) float32."""
    for i in range(len(missed)):
        if missed[i]:
            r, g, b = _sky(p, light, directions[i, 0], directions[i, 1], directions[i, 2])
            radiance[i, 0], radiance[i, 1], radiance[i, 2] = r, g, b


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _openness(volume, x, y, z, out):
    """Share of the sky that is seen from a point: upwards, and towards east, north, west and south."""
    grid, x0, y0, cell, heights = volume
    nz, ny, nx = grid.shape[:3]
    fx = min(max((x - x0) / cell, 0.0), nx - 1.001)
    fy = min(max((y - y0) / cell, 0.0), ny - 1.001)
    k = 0
    while k < nz - 2 and z > heights[k + 1]:
        k += 1
    fz = min(max((z - heights[k]) / (heights[k + 1] - heights[k]), 0.0), 1.0)
    ix, iy = int(fx), int(fy)
    fx -= ix
    fy -= iy
    for s in range(5):
        low = (
            grid[k, iy, ix, s] * (1 - fx) * (1 - fy)
            + grid[k, iy, ix + 1, s] * fx * (1 - fy)
            + grid[k, iy + 1, ix, s] * (1 - fx) * fy
            + grid[k, iy + 1, ix + 1, s] * fx * fy
        )
        high = (
            grid[k + 1, iy, ix, s] * (1 - fx) * (1 - fy)
            + grid[k + 1, iy, ix + 1, s] * fx * (1 - fy)
            + grid[k + 1, iy + 1, ix, s] * (1 - fx) * fy
            + grid[k + 1, iy + 1, ix + 1, s] * fx * fy
        )
        out[s] = (low * (1 - fz) + high * fz) / 255.0


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def strongest_lamp(lamps, cells, points, normal, hit, lamp, others):
    """The lamp that gives most light to each point, and the irradiance from all others.

    Args:
        lamps: (L, 3) positions.
        cells: (starts, members, x0, y0, cell size, columns, rows): the lamps near each cell of a grid.
        points: (N, 3). normal: (N, 3). hit: (N,) whether there is a point.
        lamp: (N,) int32, to be filled: index, or −1.
        others: (N, 2) float32, to be filled: irradiance of the strongest and of the other lamps, of lamps
            that give 1 at 1 m.
    """
    starts, members, x0, y0, size, columns, rows = cells
    for i in range(len(lamp)):
        lamp[i] = -1
        others[i, 0] = others[i, 1] = 0.0
        if not hit[i]:
            continue
        column = int((points[i, 0] - x0) / size)
        row = int((points[i, 1] - y0) / size)
        if column < 0 or row < 0 or column >= columns or row >= rows:
            continue
        cell = row * columns + column
        best, total = 0.0, 0.0
        for m in range(starts[cell], starts[cell + 1]):
            k = members[m]
            lx = lamps[k, 0] - points[i, 0]
            ly = lamps[k, 1] - points[i, 1]
            lz = lamps[k, 2] - points[i, 2]
            square = lx * lx + ly * ly + lz * lz
            if square > LAMP_REACH * LAMP_REACH:
                continue
            length = math.sqrt(square)
            facing = (lx * normal[i, 0] + ly * normal[i, 1] + lz * normal[i, 2]) / length
            if facing <= 0:
                continue
            # Lamps shine downwards, and a little to the sides and up.
            beam = 0.12 + 0.88 * min(max((lz / length + 0.15) / 0.6, 0.0), 1.0)
            fade = 1 - square / (LAMP_REACH * LAMP_REACH)
            value = facing * beam * fade * fade / (1.0 + square / 16.0) * 0.42
            total += value
            if value > best:
                best = value
                lamp[i] = k
        others[i, 0] = best
        others[i, 1] = total - best


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def illuminate(
    p,
    light,
    volume,
    points,
    directions,
    hit,
    distance,
    normal,
    albedo,
    gloss,
    glow,
    sun_seen,
    lamplight,
    radiance,
):
    """Fill the radiance (times pi) that reaches the camera from surfaces.

    Args:
        p: pyramids. light: kernel arrays of the light. volume: openness of the sky.
        points, directions: (N, 3). hit: (N,) whether a surface was met; other rays are left as they are.
        distance, normal, albedo, gloss, glow: from :func:`surfaces`.
        sun_seen: (N,) float32, 1 where the sun shines on the surface.
        lamplight: (N,) float32 irradiance from lamps, shadows taken into account.
        radiance: (N, 3) float32, to be filled.
    """
    sky_open = np.empty(5)
    east = np.array([0.9, 0.0, -0.9, 0.0])
    north = np.array([0.0, 0.9, 0.0, -0.9])
    tops = (
        light.zenith[0] * 0.8 + light.horizon[0] * 0.2,
        light.zenith[1] * 0.8 + light.horizon[1] * 0.2,
        light.zenith[2] * 0.8 + light.horizon[2] * 0.2,
    )
    cloudy = light.clouds * 0.15 * (light.sun[0] + light.sun[1] + light.sun[2]) / 3
    for i in range(len(hit)):
        if not hit[i]:
            continue
        nx, ny, nz = float(normal[i, 0]), float(normal[i, 1]), float(normal[i, 2])
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        _openness(volume, x + 1.2 * nx, y + 1.2 * ny, z + 0.6 * nz, sky_open)
        facing_sun = nx * light.to_sun[0] + ny * light.to_sun[1] + nz * light.to_sun[2]
        leaf = gloss[i] < 0
        if leaf:
            facing_sun = 0.35 + 0.5 * abs(facing_sun)
            nz = 0.5 + 0.5 * nz
        facing_sun = max(facing_sun, 0.0) * sun_seen[i]
        above = 0.28 * sky_open[0] * max(0.75 * nz + 0.25, 0.0)
        around = 0.0
        for s in range(4):
            around += (
                0.32 * sky_open[s + 1] * max(0.75 * (nx * east[s] + ny * north[s] + 0.42 * nz) + 0.25, 0.0)
            )
        openness = 0.2 * (sky_open[0] + sky_open[1] + sky_open[2] + sky_open[3] + sky_open[4])
        bounce = (0.55 - 0.35 * nz) * (0.35 + 0.65 * openness)
        shine = gloss[i]
        mirrored = 0.0
        sr = sg = sb = 0.0
        if shine > 0:
            dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
            cosine = -(dx * nx + dy * ny + dz * nz)
            mirrored = shine * (0.06 + 0.94 * (1 - min(max(cosine, 0.0), 1.0)) ** 4)
            rx, ry, rz = dx + 2 * cosine * nx, dy + 2 * cosine * ny, dz + 2 * cosine * nz
            seen = openness * min(max((rz + 0.05) / 0.25, 0.0), 1.0)
            cr, cg, cb = _sky(p, light, rx, ry, max(rz, 0.02))
            sr, sg, sb = cr * seen, cg * seen, cb * seen
        fog = math.exp(-distance[i] * light.haze * 0.001)
        for c in range(3):
            ambient = above * (tops[c] + cloudy) + around * (
                0.5 * light.zenith[c] + 0.5 * light.horizon[c] + cloudy
            )
            around_sun = light.sun[c] * 0.5 * light.sun_height + tops[c] + cloudy
            irradiance = light.sun[c] * facing_sun + 0.8 * ambient + 0.20 * bounce * around_sun
            irradiance += light.lamps[c] * (lamplight[i] + 0.012)
            value = albedo[i, c] * irradiance * (1 - mirrored)
            reflected = sr if c == 0 else (sg if c == 1 else sb)
            ground = 0.15 * around_sun * (1 - (openness if mirrored > 0 else 0.0))
            value += mirrored * (reflected + ground)
            value += albedo[i, c] * glow[i] * light.glow[c]
            radiance[i, c] = value * fog + light.horizon[c] * (1 - fog)


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def directions_at(grid, x, y, rotation, out):
    """Unit directions of pixels (x, y), bilinear between those of the pixels' centres, and turned.

    Args:
        grid: (H + 2, W + 2, 3), directions of the centres of the pixels and of a border of one pixel.
        x, y: (N,), COLMAP's pixels.
        rotation: (3, 3), from the frame of `grid` to that of the result.
        out: (N, 3), to be filled.
    """
    for i in range(len(x)):
        column = min(int(x[i] + 0.5), grid.shape[1] - 2)
        row = min(int(y[i] + 0.5), grid.shape[0] - 2)
        fx = x[i] + 0.5 - column
        fy = y[i] + 0.5 - row
        upper0 = grid[row, column, 0] * (1 - fx) + grid[row, column + 1, 0] * fx
        upper1 = grid[row, column, 1] * (1 - fx) + grid[row, column + 1, 1] * fx
        lower0 = grid[row + 1, column, 0] * (1 - fx) + grid[row + 1, column + 1, 0] * fx
        lower1 = grid[row + 1, column, 1] * (1 - fx) + grid[row + 1, column + 1, 1] * fx
        local = (upper0 * (1 - fy) + lower0 * fy, upper1 * (1 - fy) + lower1 * fy, 1.0)
        length = math.sqrt(local[0] * local[0] + local[1] * local[1] + 1.0)
        for c in range(3):
            out[i, c] = (
                rotation[c, 0] * local[0] + rotation[c, 1] * local[1] + rotation[c, 2] * local[2]
            ) / length


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def panorama_directions(x, y, width, height, low, high, out):
    """Unit directions of the pixels of an equirectangular panorama whose middle column looks north.

    Args:
        x, y: (N,), COLMAP's pixels.
        width, height: of the panorama.
        low, high: elevation of its lower and upper border, radians.
        out: (N, 3), to be filled.
    """
    for i in range(len(x)):
        azimuth = (x[i] / width - 0.5) * (2 * math.pi)
        up = high - y[i] / height * (high - low)
        level = math.cos(up)
        out[i, 0] = math.sin(azimuth) * level
        out[i, 1] = math.cos(azimuth) * level
        out[i, 2] = math.sin(up)
