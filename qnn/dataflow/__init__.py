"""FINN: from QONNX to a hardware graph, folding, estimates and HDL.

The one package that imports finn and qonnx. It runs in a process of its own, ``python -m qnn.dataflow
request.json``, since FINN keeps global state, prints, and takes seconds to import; a crash of it is one job's
failure, and another FINN release is another interpreter. It uses the standard library, numpy, onnx, qonnx and finn,
and modules of the suite that need no more, so that it runs wherever FINN does. Importing this package itself imports
none of them: :mod:`qnn.tools.finn` starts the process.

=============  ==================================================================================
session        FINN without vendor tools
graph          QONNX -> streamlined -> hardware graph -> folded RTL nodes
own            a model from outside: its input prepared, and as far towards hardware as FINN takes it
folded         a hardware graph folded, described and made into RTL
integers       the hardware integer model, read from the streamlined graph
rtl            FINN's HDL of each node, as files with relative names
execution      graphs executed in Python by QONNX
xsi            Verilator behind finn.xsi, FINN's RTL simulation; on its own, it serves any script with FINN
verilated      what FINN's simulation engine expects of the module xsi, on Verilator
rtlsim         FINN's node-by-node RTL simulation
stepping       FINN's simulation engine on a stitched design
cppsim         HLS nodes executed as C++ programs by FINN
=============  ==================================================================================
"""
