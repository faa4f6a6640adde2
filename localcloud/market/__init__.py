"""The EC2 market: capacity, prices, interruptions and faults per offering, as one plain model behind several faces.

``model`` is the market itself. ``client`` shows it as a boto3 EC2 client in the same process, ``server`` as EC2 over
HTTP with a control interface beside it, ``trace`` feeds it a recorded market. docs/market.md describes all of them.
"""
