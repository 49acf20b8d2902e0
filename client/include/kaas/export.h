// What the shared client library exports.
#pragma once

#define KAAS_API __attribute__((visibility("default")))
