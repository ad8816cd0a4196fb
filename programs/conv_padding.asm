; One convolution with padding: 4 x 4 pixels of 2 channels, a 3 x 3 kernel, padding 1, 3 output channels.
;
;   accelsim run configs/edge_16x16.yaml programs/conv_padding.asm
;
; The arithmetic is PyTorch's qnnpack: the bias is an integer, rounded before it is added, and the scales are per tensor.
;
;   code = clamp(round((acc + round(bias / (sx * sw))) * (sx * sw / so)) + zo)
;
; There is no im2col in memory: the MAC instruction's address generator walks output line, output pixel, kernel line,
; kernel column and channel, and where it leaves the image it takes the code `pad` instead, which is the input's zero
; point: the code that stands for 0.0. So the padding takes part in the sum like any other code, and one constant for
; each output channel, -zx * sum of all its weights, takes the zero point out of every sum, at the border too.

.program conv_padding

.define image     0x000    ; 4 x 4 x 2 codes: line by line, pixel by pixel, channels innermost
.define kernel    0x040    ; 3 x 3 x 2 x 3
.define constants 0x080
.define result    0x100    ; 4 x 4 x 3

; scale 0.1, zero point 12
.data 0x000 u8  20  0   24  1    0  4   24 29
.data 0x008 u8  14  5   15 19   18 22    8  7
.data 0x010 u8  29  8    1 13    8  7   11 29
.data 0x018 u8  17  5   12 26    3 23    1 25

; scale 0.05; one line for each tap (ky, kx): channel 0's weights for the three outputs, then channel 1's
.data 0x040 i8  -7 -7  8    1 -9 -7    ; 0 0
.data 0x046 i8  -2  7 -6    8  5 -4    ; 0 1
.data 0x04c i8   2 -3  1   -4  4  4    ; 0 2
.data 0x052 i8   0 -5 -3   -3  5  2    ; 1 0
.data 0x058 i8   3  1 -4    7 -9 -1    ; 1 1
.data 0x05e i8   3  8  6   -6 -9 -6    ; 1 2
.data 0x064 i8   3  7 -7   -8  0  6    ; 2 0
.data 0x06a i8  -8  7 -3   -2 -3  6    ; 2 1
.data 0x070 i8   9 -4 -7    3 -1 -5    ; 2 2

; offset: the zero point's part -12 * (-1, -6, -20) = (12, 72, 240), and the bias (0.4, -0.6, 0.21) / (0.1 * 0.05)
; = (80, -120, 42)
.data 0x080 i32 92 -48 282
; multiplier: 0.1 * 0.05 * (1 / 0.25)
.data 0x08c f32 0.020000001 0.020000001 0.020000001

; stored N H W C; the axes 0, 3, 1, 2 of that make PyTorch's N C H W
.output y address=result shape=1x3x4x4 stored=1x4x4x3 axes=0x3x1x2 dtype=uint8 scale=0.25 zero_point=100

.define image_here 0       ; activation buffer
.define result_here 64

.layer conv
load memory=activation dram=image address=image_here length=32
load memory=weight dram=kernel address=0 length=54 signal=mac
load memory=parameter dram=constants address=0 length=24 signal=post

; 16 output pixels, 9 taps x 2 channels = 18 products each, 3 outputs: 864 products.
; `top` and `left` -1: the first tap of the first output lies one line above and one pixel left of the image.
mac activation=image_here line_pitch=8 pixel_pitch=2 height=4 width=4 out_height=4 out_width=4 kernel_height=3 kernel_width=3 top=-1 left=-1 channels=2 pad=12 outputs=3 weight=0 weight_pitch_k=3 accumulator=0 wait=load signal=post

requantize accumulator=0 out=result_here line_pitch=12 pixel_pitch=3 out_height=4 out_width=4 channels=3 parameters=0 steps=offset+multiplier zero_point=100 minimum=0 maximum=255 wait=load+mac signal=store

store dram=result address=result_here length=48 wait=post
halt
