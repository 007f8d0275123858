// SPDX-License-Identifier: Apache-2.0
// PyTorch's library for the CPU: its operators called from C++ without gradients, into results that
// it allocates anew as a model's would. Rows of bf16 and f16 have activations and results in that
// type. Weights are plain, packed by MKL or oneDNN, or in its own formats of bytes and nibbles.
#include "module.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_convert_weight_to_int4pack_for_cpu.h>
#include <ATen/ops/_weight_int4pack_mm_for_cpu.h>
#include <ATen/ops/_weight_int8pack_mm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/quantize_per_channel.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/InferenceMode.h>
#include <omp.h>
#include <torch/headeronly/version.h>

#include <stdexcept>

namespace peers {
namespace {

using at::Tensor;

at::ScalarType type_of(element e) {
  return e == element::bf16 ? at::kBFloat16 : e == element::f16 ? at::kHalf : at::kFloat;
}

// The caller's floats, not copied.
Tensor seen(const float* from, at::IntArrayRef sizes) {
  return at::from_blob(const_cast<float*>(from), sizes, at::kFloat);
}

// What an operator has a name for only.
Tensor called(const char* name, std::vector<c10::IValue> arguments) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&arguments);
  return arguments[0].toTensor();
}

// The number of threads of PyTorch and of the libraries in it. at::set_num_threads may start
// threads anew; later calls need no more than OpenMP's number, which all of them share.
void use(int threads) {
  static int now = 0;
  if (now != threads) at::set_num_threads(now = threads);
  omp_set_num_threads(threads);
}

// What all ways do alike: `call` computes, with `c` the number of the call.
struct operation {
  int threads;
  std::function<Tensor(index_t c)> call;
  Tensor y, plain;

  void run(index_t c) {
    const c10::InferenceMode without_gradients;
    use(threads);
    y = call(c);
  }
  const float* result() {
    const c10::InferenceMode without_gradients;
    plain = y.to(at::kFloat).contiguous();
    return plain.data_ptr<float>();
  }
};

// make() prepares and gives the call. What PyTorch says that it cannot do here is left to the page.
template <class Make>
void add(ways& all, const std::string& name, int threads, const Make& make) {
  try {
    const c10::InferenceMode without_gradients;
    use(threads);
    const auto it = std::make_shared<operation>(operation{threads, make(), {}, {}});
    all.push_back({name, [it](index_t c) { it->run(c); }, [it] { return it->result(); }, {}, 0});
  } catch (const c10::Error& e) {
    const std::string why = std::string(e.what_without_backtrace()).substr(0, 120);
    all.push_back({name, [why](index_t) { throw std::runtime_error(why); }, {}, {}, 0});
  }
}

// A weight and copies of it; `once` makes one.
template <class Once>
auto copies_of(const linear_task& t, const Once& once) {
  std::vector<decltype(once())> all;
  for (index_t i = 0; i < t.copies(); ++i) all.push_back(once());
  return all;
}
template <class T>
const T& copy_of(const std::vector<T>& all, index_t call) {
  return all[static_cast<std::size_t>(call) % all.size()];
}

Tensor activations(const linear_task& t, at::ScalarType type) {
  return seen(t.x, {t.m, t.k}).to(type);
}
Tensor weight_of(const linear_task& t) {
  return seen(t.w, {t.n, t.k});
}

auto plain_linear(const linear_task& t) {
  return [t] {
    const auto w = copies_of(t, [&] { return weight_of(t).to(type_of(t.type), false, true); });
    return [x = activations(t, type_of(t.type)), w](index_t c) {
      return at::linear(x, copy_of(w, c));
    };
  };
}

// Packed by oneDNN, as torch.compile does where weights are frozen.
auto onednn_linear(const linear_task& t) {
  return [t] {
    const Tensor w = weight_of(t).to(type_of(t.type));
    const auto packed = copies_of(t, [&] {
      return called("mkldnn::_reorder_linear_weight", {w, t.m});
    });
    return [x = activations(t, type_of(t.type)), packed](index_t c) {
      const c10::List<std::optional<at::Scalar>> none;
      return called("mkldnn::_linear_pointwise",
                    {x, copy_of(packed, c), c10::IValue(), "none", none, ""});
    };
  };
}

// Packed by MKL, likewise.
auto mkl_linear(const linear_task& t) {
  return [t] {
    const Tensor w = weight_of(t);
    const auto packed = copies_of(t, [&] {
      return called("mkl::_mkl_reorder_linear_weight", {w, t.m});
    });
    return [x = activations(t, at::kFloat), w, packed, m = t.m](index_t c) {
      return called("mkl::_mkl_linear", {x, copy_of(packed, c), w, c10::IValue(), m});
    };
  };
}

// Bytes by bytes: linear_dynamic measures x and rounds it inside the call.
auto dynamic_linear(const linear_task& t, at::QEngine engine) {
  return [t, engine] {
    at::globalContext().setQEngine(engine);
    const Tensor w = weight_of(t);
    const Tensor scales = std::get<0>(w.abs().max(1)) / 127;
    const Tensor bytes = at::quantize_per_channel(w, scales.to(at::kDouble),
                                                  at::zeros({t.n}, at::kLong), 0, at::kQInt8);
    const auto packed = copies_of(t, [&] {
      std::vector<c10::IValue> stack{bytes, c10::IValue()};
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("quantized::linear_prepack", "")
          .callBoxed(&stack);
      return stack[0];
    });
    return [x = activations(t, at::kFloat), packed](index_t c) {
      return called("quantized::linear_dynamic", {x, copy_of(packed, c), false});
    };
  };
}

// Bytes of weights by bf16.
auto int8_weights(const linear_task& t) {
  return [t] {
    const Tensor w = weight_of(t);
    const Tensor scales = std::get<0>(w.abs().max(1)) / 127;
    const Tensor bytes = (w / scales.unsqueeze(1)).round().to(at::kChar);
    const auto all = copies_of(t, [&] { return bytes.clone(); });
    return [x = activations(t, at::kBFloat16), all, s = scales.to(at::kBFloat16)](index_t c) {
      return at::_weight_int8pack_mm(x, copy_of(all, c), s);
    };
  };
}

// Nibbles in groups of 32 with scales and offsets in the type of the activations.
auto int4_weights(const linear_task& t, at::ScalarType type) {
  return [t, type] {
    const Tensor groups = weight_of(t).view({t.n, t.k / 32, 32});
    const Tensor scales = groups.abs().amax(2) / 7;
    const Tensor nibbles =
        ((groups / scales.unsqueeze(2)).round() + 8).to(at::kInt).view({t.n, t.k});
    const Tensor both =
        at::stack({scales, at::zeros_like(scales)}, 2).transpose(0, 1).contiguous().to(type);
    const Tensor one = at::_convert_weight_to_int4pack_for_cpu(nibbles, 2);
    const auto packed = copies_of(t, [&] { return one.clone(); });
    return [x = activations(t, type), packed, both](index_t c) {
      return at::_weight_int4pack_mm_for_cpu(x, copy_of(packed, c), 32, both);
    };
  };
}

auto product(const product_task& t) {
  return [t] {
    const Tensor a = t.a_turned ? seen(t.a, {t.k, t.m}).t() : seen(t.a, {t.m, t.k});
    const Tensor b = t.b_turned ? seen(t.b, {t.n, t.k}).t() : seen(t.b, {t.k, t.n});
    return [a, b](index_t) { return at::mm(a, b); };
  };
}

auto attention(const attention_task& t) {
  return [t] {
    const auto heads = [&](const float* from) {
      return seen(from, {1, t.tokens, t.heads, t.dim}).to(type_of(t.type)).transpose(1, 2);
    };
    return [q = heads(t.q), k = heads(t.k), v = heads(t.v), causal = t.causal](index_t) {
      return at::scaled_dot_product_attention(q, k, v, {}, 0, causal).transpose(1, 2);
    };
  };
}

auto decode(const decode_task& t) {
  return [t] {
    const auto by_head = [&](const float* from, index_t tokens, index_t heads, index_t width) {
      return seen(from, {1, tokens, heads, width}).to(type_of(t.type)).transpose(1, 2);
    };
    std::vector<Tensor> k, v;
    for (index_t i = 0; i < t.copies; ++i) {
      k.push_back(by_head(t.k, t.keys, t.kv_heads, t.dim).clone());
      v.push_back(t.latent ? k.back().slice(3, 0, t.value_dim)
                           : by_head(t.v, t.keys, t.kv_heads, t.value_dim).clone());
    }
    return [q = by_head(t.q, 1, t.heads, t.dim), k, v](index_t call) {
      const auto copy = static_cast<std::size_t>(call) % k.size();
      return at::scaled_dot_product_attention(q, k[copy], v[copy], {}, 0, false, {}, true)
          .transpose(1, 2);
    };
  };
}

auto row_wise(const rows_task& t) {
  return [t] {
    const Tensor x = seen(t.x, {t.rows, t.dim}), weight = seen(t.weight, {t.dim});
    return [t, x, weight](index_t) {
      if (t.op == rows_task::softmax) return at::softmax(x, -1);
      return at::rms_norm(x, {t.dim}, weight, rms_norm_eps);
    };
  };
}

class torch_library : public library {
 public:
  std::string name() const override { return "PyTorch"; }
  std::string version() const override { return TORCH_VERSION; }

  ways offer(const linear_task& t, int n) override {
    ways all;
    if (t.type == element::int8) {
      add(all, "linear_dynamic of FBGEMM", n, dynamic_linear(t, at::QEngine::FBGEMM));
      add(all, "linear_dynamic of oneDNN", n, dynamic_linear(t, at::QEngine::ONEDNN));
      add(all, "int8 weights by bf16", n, int8_weights(t));
    } else if (t.type == element::int4) {
      add(all, "int4 weights by float", n, int4_weights(t, at::kFloat));
      add(all, "int4 weights by bf16", n, int4_weights(t, at::kBFloat16));
    } else {
      add(all, "linear", n, plain_linear(t));
      add(all, "linear packed by oneDNN", n, onednn_linear(t));
    }
    if (t.type == element::f32) add(all, "linear packed by MKL", n, mkl_linear(t));
    return all;
  }
  ways offer(const product_task& t, int n) override { return one("mm", n, product(t)); }
  ways offer(const attention_task& t, int n) override {
    return one("scaled_dot_product_attention", n, attention(t));
  }
  ways offer(const decode_task& t, int n) override {
    return one("scaled_dot_product_attention", n, decode(t));
  }
  ways offer(const rows_task& t, int n) override {
    return one(t.op == rows_task::softmax ? "softmax" : "rms_norm", n, row_wise(t));
  }
  ways offer(const gate_task& t, int n) override {
    return one("softmax, topk", n, [t] {
      return [t, x = seen(t.logits, {t.tokens, t.experts})](index_t) {
        return std::get<0>(at::topk(at::softmax(x, -1), t.active));
      };
    });
  }

 private:
  template <class Make>
  static ways one(const char* name, int threads, const Make& make) {
    ways all;
    add(all, name, threads, make);
    return all;
  }
};

}  // namespace
}  // namespace peers

DEEPSEEK_PEER(peers::torch_library)
