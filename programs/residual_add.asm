; A residual add: two tensors of 70 codes with different scales and zero points become one.
;
;   accelsim run configs/edge_16x16.yaml programs/residual_add.asm
;
; This is `quantized::add` as PyTorch computes it on a processor with AVX2, which differs from itself: its vector body
; (the first 64 * (70 // 64) = 64 elements) adds the zero point after the rounding, its scalar tail (the last 6) before.
; On a tie with an odd zero point the two go different ways. The first six operands and the last six are the same here,
; and the results are not. Every rounding is a field of the instruction, so the machine does either.

.program residual_add

.define a 0x000         ; scale 0.5,  zero point 20
.define b 0x080         ; scale 0.25, zero point 10
.define y 0x100         ; scale 1,    zero point 7

.data 0x000 u8 21 23 25 27 29 31 15 19  6 46 25 30  9  5  4  1
.data 0x010 u8 25 35 58 18 51 48  3 14 33 34 23 17 49 11 52  6
.data 0x020 u8 16 13 59  1 53 41 51 16 51 17 12 10 19 18 40 55
.data 0x030 u8 46 54 54 56 23  5 54 38 21 42 24 32 15 11 15 30
.data 0x040 u8 21 23 25 27 29 31
.data 0x080 u8 10 10 10 10 10 10 17  5 59 52 55 35 53 19  0 58
.data 0x090 u8 18 36 45 56 19 54 48 32 12 26 27 38 18 27 28 10
.data 0x0a0 u8 14 19 16 52 51  2  5  2 29 40 17 33 34 41 30 44
.data 0x0b0 u8 21  9 43 12  4 26 58 12 40 40 28 17 11 22 27 47
.data 0x0c0 u8 10 10 10 10 10 10

.output y address=y shape=1x70 dtype=uint8 scale=1.0 zero_point=7

.define a_here 0        ; activation buffer
.define b_here 80
.define y_here 160
.define a_tail 64       ; a_here + 64
.define b_tail 144
.define y_tail 224

.layer add
load memory=activation dram=a address=a_here length=70
load memory=activation dram=b address=b_here length=70 signal=post

; Body: v = fma(a, 0.5, -20 * 0.5) + fma(b, 0.25, -10 * 0.25); round(v * (1 / 1.0)) + 7.
; The first six: v = 0.5 1.5 2.5 3.5 4.5 5.5 rounds to 0 2 2 4 4 6, and the codes are 7 9 9 11 11 13.
add a=a_here b=b_here out=y_here length=64 scale_a=0.5 offset_a=-10 scale_b=0.25 offset_b=-2.5 steps=multiplier multiplier=1 zero_point=7 minimum=0 maximum=255 wait=load

; Tail: v = (a - 20) * 0.5 + (b - 10) * 0.25; round(v * (1 / 1.0) + 7).
; The last six: 7.5 8.5 9.5 10.5 11.5 12.5 rounds to 8 8 10 10 12 12.
add a=a_tail b=b_tail out=y_tail length=6 subtract_a=20 scale_a=0.5 subtract_b=10 scale_b=0.25 steps=multiplier+zero_point_first multiplier=1 zero_point=7 minimum=0 maximum=255 signal=store

store dram=y address=y_here length=70 wait=post
halt
