; Two consecutive quantised linear layers with different scales and zero points, by hand.
;
;   accelsim run configs/edge_16x16.yaml programs/two_layers.asm
;
; The arithmetic is PyTorch's fbgemm, weights per output channel:
;
;   real value = scale * (code - zero point)
;   acc  = sum over k of (qx[k] - zx) * qw[k][n]                       an exact integer
;   code = clamp(round((acc + bias / (sx * sw)) * (sx * sw / so)) + zo)   binary32, each step rounded, ties to even
;
; The machine multiplies the raw codes: sum (qx - zx) * qw = sum qx * qw - zx * sum qw. The second term does not
; depend on the input, so it is an integer constant of each output channel: the `offset` below.

.program two_layers

; Where things lie in DRAM.
.define x         0x000     ; the input, 4 codes (uint8)
.define weights_1 0x040     ; layer 1, 4 x 3
.define constants_1 0x080
.define weights_2 0x0c0     ; layer 2, 3 x 2
.define constants_2 0x100
.define y         0x140     ; the result, 2 codes

; Where things lie in the scratchpads.
.define x_here  0           ; activation buffer
.define h_here  16          ; the hidden layer, 3 codes: it never leaves the chip
.define y_here  32
.define w1_here 0           ; weight buffer
.define w2_here 64
.define c1_here 0           ; parameter buffer
.define c2_here 64
.define acc_1   0           ; accumulators, in words
.define acc_2   16

; ---- the data image ---------------------------------------------------------------------------------------------
; x: scale 0.05, zero point 10; the real input is 0.1, 9.5, 0.0, 4.35
.data x u8 12 200 10 97

; Layer 1: int8 weights, one line for each input k, one column for each output n; scales 0.02, 0.01, 0.03.
.data 0x040 i8  25 -12   5
.data 0x043 i8  -3  18 -60
.data 0x046 i8  40   0  21
.data 0x049 i8   7  33  -9
; Constants, a plane for each step of the pipeline, a word for each output channel.
.data 0x080 i32 -690 -390 430                       ; offset     = -zx * sum of the column = -10 * (69, 39, -43)
.data 0x08c f32 499.99997 -499.99997 666.6667       ; bias       = (0.5, -0.25, 1.0) / (sx * sw)
.data 0x098 f32 0.010000001 0.0050000004 0.015      ; multiplier = sx * sw / so, so = 0.1

; Layer 2: its input scale and zero point are layer 1's output scale 0.1 and zero point 3. Weight scales 0.015, 0.025.
.data 0x0c0 i8  30  -7
.data 0x0c2 i8 -20  45
.data 0x0c4 i8  11  64
.data 0x100 i32 -63 -306                            ; -3 * (21, 102)
.data 0x108 f32 -66.666664 79.99999                 ; (-0.1, 0.2) / (0.1 * sw)
.data 0x110 f32 0.01875 0.031250004                 ; 0.1 * sw / 0.08

.output y address=y shape=1x2 dtype=uint8 scale=0.08 zero_point=120

; ---- the program ------------------------------------------------------------------------------------------------
; Four units run at the same time, each its own instructions in order. `signal` puts a token, `wait` takes one:
; the MAC unit must not start before the weights are there, and so on.
.layer fc1
load memory=activation dram=x address=x_here length=4
load memory=weight     dram=weights_1 address=w1_here length=12 signal=mac      ; x is there too: loads end in order
load memory=parameter  dram=constants_1 address=c1_here length=36 signal=post

; 1 pixel, 4 channels, 3 outputs: acc_1[n] = sum over k of x[k] * w1[k][n] = 779, 6657, -12603
mac activation=x_here channels=4 outputs=3 weight=w1_here weight_pitch_k=3 accumulator=acc_1 wait=load signal=post

; + offset:                   89,      6267,      -12173     the exact sums, the input's zero point taken out
; to binary32, + bias:        589,     5767,      -11506.333
; * multiplier:               5.89,    28.835003, -172.59499
; round, + zero point 3:      9,       32,        -170
; clamp to 3..255 (ReLU):     9,       32,        3
requantize accumulator=acc_1 out=h_here channels=3 parameters=c1_here steps=offset+bias+multiplier zero_point=3 minimum=3 maximum=255 wait=load+mac signal=mac

.layer fc2
load memory=weight     dram=weights_2 address=w2_here length=6 signal=mac
load memory=parameter  dram=constants_2 address=c2_here length=24 signal=post

; acc_2[n] = sum over k of h[k] * w2[k][n] = -337, 1569
mac activation=h_here channels=3 outputs=2 weight=w2_here weight_pitch_k=2 accumulator=acc_2 wait=load+post signal=post

; + offset:                   -400,     1263
; to binary32, + bias:        -466.66666, 1343
; * multiplier:               -8.75,    41.968754
; round, + zero point 120:    111,      162
requantize accumulator=acc_2 out=y_here channels=2 parameters=c2_here steps=offset+bias+multiplier zero_point=120 minimum=0 maximum=255 wait=load+mac signal=store

; The real output is 0.08 * (111 - 120, 162 - 120) = -0.72, 3.36.
store dram=y address=y_here length=2 wait=post
halt
