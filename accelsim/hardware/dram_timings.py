"""Published timings of DRAM parts: what the presets of `dram: {model: banked, preset: ...}` stand for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DramTimings:
    """One channel of a DRAM part. Times are clocks of the DRAM, `mhz` a microsecond; two data words a clock and pin.

    `burst_bytes` go over the pins in `burst` clocks. A bank's open row holds `row_bytes` of the channel. `_s` is
    between different bank groups, `_l` within one. From column command to column command: `ccd`; from the end of
    written data to a read: `wtr`; from read command to write command: `read_to_write`. From column command to
    precharge: `rtp` after a read, `cwl + burst + wr` after a write. tRC is `ras + rp`.
    """

    mhz: int
    burst_bytes: int
    burst: int
    bank_groups: int
    banks_per_group: int
    row_bytes: int
    cl: int
    cwl: int
    rcd: int
    rp: int
    ras: int
    rtp: int
    wr: int
    ccd_s: int
    ccd_l: int
    rrd_s: int
    rrd_l: int
    faw: int
    wtr_s: int
    wtr_l: int
    read_to_write: int
    refi: int
    rfc: int


#: Where the numbers are from:
#: ddr4_2400    64 bits of DDR4-2400 (JESD79-4, 16-16-16), eight chips of 8 Gb x8, Micron MT40A1G8PM-083E, as in
#:              DRAMsim3's DDR4_8Gb_x8_2400.ini; tRTP (7.5 ns) and read to write (CL - CWL + BL/2 + 2): the standard.
#: lpddr4_3200  32 bits of LPDDR4-3200 (JESD209-4, 4 Gb a channel), two x16 channels in step: RL 28, WL 14 (set A),
#:              tRCD 18, tRPpb 18, tRAS 42, tRRD 10, tFAW 40, tWR 18, tWTR 10, tRTP 7.5, tRFCab 180, tREFI 3904 ns;
#:              read to write RL + tDQSCKmax + BL/2 - WL + tWPRE. Ramulator's LPDDR4.h has most of these in clocks.
#: hbm2         one channel of 128 bits at 2 Gb/s (JESD235), as in DRAMsim3's HBM2_4Gb_x128.ini; read to write by
#:              the formula of DDR4.
PRESETS = {
    "ddr4_2400": DramTimings(
        mhz=1200,
        burst_bytes=64,
        burst=4,
        bank_groups=4,
        banks_per_group=4,
        row_bytes=8192,
        cl=16,
        cwl=16,
        rcd=16,
        rp=16,
        ras=39,
        rtp=9,
        wr=19,
        ccd_s=4,
        ccd_l=6,
        rrd_s=4,
        rrd_l=6,
        faw=26,
        wtr_s=3,
        wtr_l=9,
        read_to_write=6,
        refi=9364,
        rfc=420,
    ),
    "lpddr4_3200": DramTimings(
        mhz=1600,
        burst_bytes=64,
        burst=8,
        bank_groups=1,
        banks_per_group=8,
        row_bytes=4096,
        cl=28,
        cwl=14,
        rcd=29,
        rp=29,
        ras=68,
        rtp=12,
        wr=29,
        ccd_s=8,
        ccd_l=8,
        rrd_s=16,
        rrd_l=16,
        faw=64,
        wtr_s=16,
        wtr_l=16,
        read_to_write=30,
        refi=6246,
        rfc=288,
    ),
    "hbm2": DramTimings(
        mhz=1000,
        burst_bytes=64,
        burst=2,
        bank_groups=4,
        banks_per_group=4,
        row_bytes=1024,
        cl=14,
        cwl=4,
        rcd=14,
        rp=14,
        ras=34,
        rtp=6,
        wr=16,
        ccd_s=1,
        ccd_l=2,
        rrd_s=4,
        rrd_l=6,
        faw=30,
        wtr_s=6,
        wtr_l=8,
        read_to_write=14,
        refi=3900,
        rfc=260,
    ),
}
