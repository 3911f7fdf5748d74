"""One module per vendor. To add one: implement ``base.Provider``, name it in ``catalog`` and in
``gateway``.
"""
