"""What the suite states of each cell: accuracy, thresholding, equivalence, resources, throughput."""
