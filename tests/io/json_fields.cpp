// SPDX-License-Identifier: Apache-2.0
// Fields by name: kinds, absence, and what is left over.
#include <doctest/doctest.h>
#include <deepseek/io/json_fields.hpp>

#include "support/throws.hpp"

namespace ds = deepseek;
using ds::error_code;

TEST_CASE("json_fields: reads each kind, takes null for absent") {
  const auto object = ds::parse_json(R"({"t":"x","l":[1],"o":{"f":true},"n":null})", "doc");
  ds::json_fields fields(object, "doc");
  CHECK(fields.text("t") == "x");
  CHECK(fields.list("l").size() == 1);
  ds::json_fields inner = fields.object("o");
  CHECK(inner.what() == "doc.o");
  CHECK(inner.flag("f", false));
  CHECK(inner.flag("g", true));
  CHECK(fields.find("n") == nullptr);
  CHECK(fields.find("absent") == nullptr);
  inner.finish();
  fields.finish();
}

TEST_CASE("json_fields: names the object and the field that is wrong") {
  const auto object = ds::parse_json(R"({"t":7,"l":{},"o":[],"f":0,"n":null})", "doc");
  ds::json_fields fields(object, "doc");
  CHECK_ERROR(error_code::schema, "doc", "t is number", fields.text("t"));
  CHECK_ERROR(error_code::schema, "doc", "l is object", fields.list("l"));
  CHECK_ERROR(error_code::schema, "doc.o", "array", fields.object("o"));
  CHECK_ERROR(error_code::schema, "doc", "f is neither", fields.flag("f", true));
  CHECK_ERROR(error_code::schema, "doc", "no n", fields.value("n"));
  CHECK_ERROR(error_code::schema, "doc", "no absent", fields.text("absent"));
  const auto list = ds::parse_json("[]", "doc");
  CHECK_ERROR(error_code::schema, "array", ds::json_fields(list, "doc"));
  ds::json_fields part(object, "doc");
  part.find("t");
  CHECK_ERROR(error_code::schema, "unknown field", part.finish());
}
