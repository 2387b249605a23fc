// FINN includes it for weights held in the kernel; those of this library's networks come as a stream.
#pragma once
