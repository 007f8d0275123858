// SPDX-License-Identifier: Apache-2.0
// Inputs and results computed once, by other means, with nine or more digits: what the oracles are
// held to.
#pragma once

#include <cstdint>
#include <vector>

namespace oracle::golden {

using reals = std::vector<double>;
using ids = std::vector<std::int64_t>;

namespace rms_norm {
inline const reals x = {1, 2, 3, 4}, w = {1, 1, 2, .5};
constexpr double eps = 1e-6;
inline const reals y = {0.365148347, 0.730296695, 2.190890084, 0.730296695};
}  // namespace rms_norm

namespace rope {  // dim 4, base 10000, position 3
inline const reals x = {1, 2, 3, 4};
constexpr std::int64_t position = 3;
inline const reals interleaved = {-1.272232513, -1.838864985, 2.878668100, 4.088186636};
inline const reals half = {-1.413352521, 1.879118067, -2.828857482, 4.058191135};
}  // namespace rope

namespace yarn {  // DeepSeek-V3: 64 elements, base 10000, factor 40, 4096 positions, 32 to 1 turns
inline const ids pairs = {0, 10, 11, 16, 22, 23, 31};
inline const reals frequencies = {
    1, 0.0562341325, 0.0390069266, 0.0055, 1.778279411e-4, 3.333803581e-5, 3.333803581e-6};
constexpr double corr_fast = 10.4722408, corr_slow = 22.5134406, low = 10, high = 23;
// DeepSeek-V4, compressed layers: base 160000, 65536 positions, factor 16.
constexpr double v4_corr_fast = 15.4532953, v4_corr_slow = 24.7084238, v4_low = 15, v4_high = 25;
// g, g^2 and 192^-1/2 g^2 at factor 40 for mscale_all_dim 0.707 (V2) and 1 (V3).
inline const reals mscale = {0.707, 1}, magnitude = {1.2608037774, 1.3688879454},
                   factor = {1.5896261652, 1.8738542071};
constexpr double v2_scale = 0.1147213868, v3_scale = 0.1352337788;
constexpr double plain_scale = 0.0721687836;
}  // namespace yarn

namespace gate {  // 8 experts, 2 active
inline const reals logits = {.2, -.1, .5, .3, -.4, .9, 0, .1};
inline const reals softmax = {.117896994, .087340241, .159144296, .130296329,
                              .064703242, .237415391, .096525895, .106677612};
inline const ids chosen = {5, 2};
inline const reals weights = {.237415391, .159144296};
inline const reals divided = {.598687660, .401312340};
// The gate that takes the softmax of the softmax.
inline const reals twice = {.139693362, .129176367};
// With a selection bias, 4 groups of which 2 are kept, 3 active.
inline const reals bias = {0, .3, -.2, 0, .5, -.6, .1, .2};
inline const ids limited = {5, 2, 3};  // softmax, best of a group, scale 16
inline const reals limited_weights = {3.798646256, 2.546308733, 2.084741267};
inline const ids balanced = {1, 7, 6};  // sigmoid + bias, sum of two, scale 2.5
inline const reals balanced_weights = {.791701354, .874965312, .833333333};
inline const reals balanced_groups = {1.324854810, .996901848, 1.012261843, 1.324979187};
inline const ids root = {4, 1, 7};  // sqrt(softplus) + bias, one group, scale 1.5
inline const reals root_weights = {.451081552, .505552855, .543365593};
}  // namespace gate

namespace balance {  // 3 tokens, 4 experts, 2 active; scores are divided by their row sum first
inline const reals scores = {.9, .2, .6, .1, .3, .8, .7, .2, .5, .4, .3, .6};
inline const ids chosen = {0, 2, 1, 2, 3, 0};
inline const reals fraction = {4. / 3, 2. / 3, 4. / 3, 2. / 3};
inline const reals probability = {.309259259, .244444444, .283333333, .162962963};
constexpr double loss = 1.061728395;
}  // namespace balance

namespace int8 {
inline const reals w = {.5, -1.27, .333, .02}, x = {-.5, 0, 1, 2.05};
constexpr double weight_scale = .01, activation_scale = .01, y = .121, exact = .124;
inline const std::vector<int> weight_codes = {50, -127, 33, 2}, codes = {0, 50, 150, 255};
constexpr int zero = 50, product = -890, corrected = 1210;
}  // namespace int8

namespace optimizer {  // p = 1, then gradients .5 and -.2
inline const reals gradients = {.5, -.2};
inline const reals adamw = {.998990000020,
                            .998634404281};                // lr 1e-3, .9, .999, eps 1e-8, decay .01
inline const reals lion = {.999969700000, .999999400009};  // lr 3e-5, .9, .99, decay .01
constexpr double lion_m = .00295;
inline const reals amf = {.999683772434,
                          .999252299337};  // as printed: lr 1e-4, .9, .999, mu .9, eps 1e-8
}  // namespace optimizer

namespace schedule {  // lr 3e-5, warm-up 2000, 100000 steps
inline const ids t = {0, 1000, 2000, 51000, 100000};
inline const reals lr = {0, 1.5e-5, 3e-5, 1.5e-5, 0};
}  // namespace schedule

namespace merge {  // scores [1, 2] with values [1, 2], and score [3] with value [4]
inline const reals scores = {1, 2, 3}, values = {1, 2, 4};
constexpr double out = 3.240451338, lse = 3.407605964;
constexpr double sink = .5, with_sink = 3.072664490;  // a logit that enters the denominator only
}  // namespace merge

namespace sinkhorn {  // 20 iterations, eps 1e-6
inline const reals logits = {.5, -.5, 1, .2};
inline const reals y = {.524978591, .475020409, .475020409, .524978591};
}  // namespace sinkhorn

}  // namespace oracle::golden
